"""What pip installs on either side; the project itself goes beside it without its dependencies."""

_RUNTIME = """\
# Then the runtime, from a checkout of the project, without what training needs:  pip install --no-deps .
constriction>=0.5,<0.6
numpy>=1.24
onnxruntime>=1.17
pillow>=10
"""
DEVICE = f"{_RUNTIME}httpx>=0.25\n"
SERVER = f"{_RUNTIME}starlette>=0.35\nuvicorn>=0.25\n"
