#!/usr/bin/env bash
# make gpu: check visionbench on an NVIDIA GPU in eight minutes, without a network.
# The most important steps run first. Each step has a time limit. If a step fails, the next steps still run.
# All files are written below $OUT (default outputs/gpu-check): log.txt, facts.json, outputs.tgz, summary.md.
# PYTHON is an interpreter with torch for CUDA. Put packages that it lacks into .whl as wheels.
# STEPS="facts tests" runs only these steps.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
start=$SECONDS budget=${BUDGET:-480}
OUT=${OUT:-$root/outputs/gpu-check}
mkdir -p "$OUT" && OUT=$(cd "$OUT" && pwd) || exit 2
python=${PYTHON:-$root/.venv/bin/python}
[ -n "${PYTHON:-}" ] || [ -x "$python" ] || python=python3
export OUT PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1 COLUMNS=160

if compgen -G "$root/.whl/*.whl" >/dev/null; then
  site=$(mktemp -d)
  "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$root"/.whl/*.whl || exit 2
  export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
fi
export PYTHONPATH=$root/src${PYTHONPATH:+:$PYTHONPATH}

absent=$("$python" -c 'from visionbench.devices.cuda import Cuda; print(Cuda().why_absent() or "")' 2>&1) ||
  { echo "make gpu: visionbench does not start with $python: ${absent##*$'\n'}"; exit 2; }
[ -z "$absent" ] || { echo "make gpu: no GPU to check: $absent"; exit 2; }

work=$(mktemp -d) && cd "$work" || exit 2
log=$OUT/log.txt && : >"$log"
visionbench=("$python" -m visionbench)

step() { # NAME SECONDS COMMAND…
  local name=$1 limit=$2 began=$SECONDS code
  shift 2
  [ -z "${STEPS:-}" ] || [[ " $STEPS " == *" $name "* ]] || return 0
  if ((SECONDS - start + 10 > budget)); then
    echo "== $name: not tried, out of time" | tee -a "$log"
    return
  fi
  ((limit > budget - (SECONDS - start))) && limit=$((budget - (SECONDS - start)))
  echo "== $name" >>"$log"
  timeout -k 5 "$limit" "$@" >>"$log" 2>&1
  code=$?
  echo "== $name: exit code $code, $((SECONDS - began)) s, $((SECONDS - start)) s in all" | tee -a "$log"
  [ ! -d outputs ] || tar -czf "$OUT/outputs.tgz" --exclude='*.png' --exclude=cache outputs
}

nvidia-smi -q -d PERFORMANCE,CLOCK,POWER,ECC,COMPUTE,PIDS >"$OUT/nvidia-smi.txt" 2>&1
quick=("${visionbench[@]}" run -m tracking=none device=cuda data.options.samples=64 model.weights=random)
speed='metrics=[latency,throughput,memory]'
step facts 75 "$python" "$root/benchmarks/gpu_facts.py"
step doctor 30 "${visionbench[@]}" doctor
step tests 90 "$python" -m pytest -q -p no:cacheprovider -rA -m gpu --rootdir "$root" -c "$root/pyproject.toml" \
  "$root/tests/devices/test_cuda.py"
step bf16 200 "${quick[@]}" model=clip_vit_b32,sam_vit_b,blip2_opt_2_7b precision=bf16 'batch.sizes=[1,8]' \
  'metrics=[all]' hydra.sweep.dir=outputs/bf16
step standard 160 "${visionbench[@]}" run tracking=none device=cuda model.weights=random model=clip_vit_b32 precision=bf16 \
  'batch.sizes=[1,256]' 'metrics=[latency,throughput,memory,energy,utilization,flops,kernels]' measure=standard \
  hydra.run.dir=outputs/standard/clip
step precisions 150 "${quick[@]}" model=clip_vit_b32,sam_vit_b precision=fp32,tf32,fp16 'batch.sizes=[1,8]' \
  'metrics=[latency,throughput,memory,flops]' hydra.sweep.dir=outputs/precisions
step quality 80 "${visionbench[@]}" run -m tracking=none device=cuda precision=bf16 data.options.samples=200 \
  model=clip_tiny,sam_tiny,blip2_tiny,classifier_tiny hydra.sweep.dir=outputs/quality \
  'metrics=[recall,segmentation,captioning,classification,evaluation]'
step repeats 60 "${quick[@]}" model=clip_vit_b32 precision=bf16 'batch.sizes=[1,8]' "$speed" measure.repeats=2 \
  hydra.sweep.dir=outputs/repeats
step wide 60 "${quick[@]}" model=clip_vit_b32 precision=bf16 'batch.sizes=[32,64,128,512,1024]' \
  'metrics=[throughput,memory,flops]' hydra.sweep.dir=outputs/wide
step out-of-memory 60 env PYTORCH_ALLOC_CONF=per_process_memory_fraction:0.04 "${quick[@]}" model=sam_vit_b \
  precision=bf16 'batch.sizes=[1,8,16]' "$speed" hydra.sweep.dir=outputs/out-of-memory # about 3 GiB: batch size 8 does not fit
step cudnn-last 40 env TORCH_CUDNN_SDPA_DEPRIORITIZED=1 "${quick[@]}" model=sam_vit_b precision=bf16 \
  'batch.sizes=[1,8]' "$speed" hydra.sweep.dir=outputs/cudnn-last
step blip2-fp16 60 "${quick[@]}" model=blip2_opt_2_7b precision=fp16,fp32 'batch.sizes=[1]' \
  'metrics=[latency,throughput,memory,flops]' hydra.sweep.dir=outputs/blip2
step advise 20 "${visionbench[@]}" advise outputs/bf16
"$python" "$root/benchmarks/gpu_summary.py" "$OUT/facts.json" outputs | tee "$OUT/summary.md"
exit "${PIPESTATUS[0]}"
