"""What pip installs on either side; the project itself goes beside it without its dependencies."""

_RUNTIME = """\
# Then the runtime, from a checkout of the project, without what training needs:  pip install --no-deps .
constriction>=0.5,<0.6
numpy>=1.24
onnxruntime>=1.18
pillow>=10.4
"""
DEVICE = f"{_RUNTIME}httpx>=0.25\nwebsockets>=15\n"
SERVER = f"{_RUNTIME}prometheus-client>=0.20\nstarlette>=0.36\nuvicorn>=0.30\nwebsockets>=15\n"
