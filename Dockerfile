# Serve the page in a container.
#   docker build -t magicmirror .                                CPU
#   docker build -t magicmirror --build-arg VARIANT=cuda .       one CUDA GPU; run with --gpus all
# The preview weights are inside. Settings are environment variables, see docs/deploy.md.
# The torch of the default package index carries CUDA and is large. For a small CPU image, name an index that holds
# CPU-only builds: --build-arg TORCH_INDEX=<url>.
FROM python:3.11-slim

ARG VARIANT=cpu
ARG TORCH_INDEX=""

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

RUN useradd --create-home --uid 1000 user
WORKDIR /home/user/app

# Dependencies first: they change less often than the code.
COPY requirements.txt ./
COPY .ci/opencv .ci/opencv
RUN torch="$(grep '^torch==' requirements.txt)" \
    && if [ -n "$TORCH_INDEX" ]; then pip install --index-url "$TORCH_INDEX" "$torch"; fi \
    && pip install -r requirements.txt \
    && BIN="$(dirname "$(command -v python)")" .ci/opencv

COPY --chown=1000:1000 . .
RUN mkdir -p outputs && chown 1000:1000 . outputs

USER 1000
ENV HOME=/home/user \
    HF_HOME=/home/user/.cache/huggingface \
    MAGICMIRROR_HOST=0.0.0.0 \
    MAGICMIRROR_PORT=7860 \
    MAGICMIRROR_DEVICE=${VARIANT} \
    MAGICMIRROR_OUTPUT_DIR=/home/user/app/outputs

EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:7860/health', timeout=4)"]
CMD ["python", "app.py"]
