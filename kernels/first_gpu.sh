#!/usr/bin/env bash
# What to run wherever a GPU is lent, in about 30 minutes: bash kernels/first_gpu.sh FOLDER [PHASE...]
# PHASE: versions, tests, sanitizer, ours, rivals, steps, training; all of them by default, in this order. Every phase
# writes its own files, and its exit status into FOLDER/report.txt, so that a lease that ends early loses only what was
# still to come. The environment needs the project (`pip install --no-deps --no-build-isolation -e .`) and its
# dependencies. `bash kernels/first_gpu.sh FOLDER precompile` needs no GPU: FOLDER/cache then holds machine code for sm_90
# and travels with the tree; it is used where NVRTC has the same version.
set -uo pipefail
out=$(realpath -m "${1:?usage: bash kernels/first_gpu.sh FOLDER [PHASE...]}")
shift
cd "$(dirname "$0")/.." || exit 1
mkdir -p "$out"
export XDG_CACHE_HOME=$out/cache PYTHONUNBUFFERED=1
phases=${*:-versions tests sanitizer ours rivals steps training}

run() { # seconds, name, command...
    local limit=$1 name=$2 start=$SECONDS
    shift 2
    timeout "$limit" "$@" >"$out/$name.txt" 2>&1
    echo "$name: exit status $? after $((SECONDS - start)) s, $(tail -n 1 "$out/$name.txt" | cut -c 1-200)" |
        tee -a "$out/report.txt"
}

for phase in $phases; do
    case $phase in
    precompile)
        run 600 precompile python -c "
import itertools, torch
from atrc_exp.kernels.build import machine_code
from atrc_exp.kernels.plan import ELEMENTS, make_plan
for dtype, channels, vector in itertools.product(ELEMENTS, (16, 33, 64, 90), (4, 2, 1)):
    code = machine_code(make_plan(dtype, channels, 9, vector, 227 * 1024), (9, 0))
    print(dtype, channels, vector, len(code), 'bytes')"
        ;;
    versions)
        date -u +%FT%TZ >>"$out/report.txt"
        run 60 versions bash -c 'nvidia-smi; git rev-parse HEAD;
            python -m pip list 2>/dev/null | grep -iE "^(torch|triton|nvidia|cuda)"'
        run 300 self-check python -m pytest -n 0 -q tests/ops/test_local_attention_cuda.py -k 'every_plan or thread_that'
        ;;
    tests)
        run 300 tests python -m pytest -n 0 -q -m 'cuda and not slow' tests/ops/test_local_attention_cuda.py
        run 120 large python -m pytest -n 0 -q -m 'cuda and slow' -k two_to_the_31 tests/ops/test_local_attention_cuda.py
        ;;
    sanitizer) run 240 sanitizer python -m pytest -n 0 -q -m 'cuda and slow' -k sanitizer tests/ops/test_local_attention_cuda.py ;;
    ours)
        run 60 model python -m atrc_exp.kernels.model --devices H200 --output "$out/model.json"
        run 120 ours python benchmarks/local_attention.py --only ours --output "$out/ours.json"
        ;;
    rivals) run 400 rivals python benchmarks/local_attention.py --output "$out/rivals.json" ;;
    steps)
        for precision in fp32 bf16; do
            run 150 "step-$precision" python -m atrc_exp +experiment=nyud_hrnet18_search stage=benchmark \
                engine.device=cuda engine.precision=$precision runs_dir="$out/steps-$precision" backbone.weights=random
        done
        ;;
    training)
        for what in search atrc; do
            run 240 "training-$what" python -m atrc_exp +experiment=rooms_hrnet18_$what engine.device=cuda \
                dataset.rooms.image_size='[425,560]' dataset.rooms.train=16 dataset.rooms.val=2 dataset.root="$out/rooms" \
                engine.iterations=200 runs_dir="$out/training" logger.mode=disabled
        done
        ;;
    *) echo "unknown phase $phase" >&2 && exit 2 ;;
    esac
done
cat "$out/report.txt"
