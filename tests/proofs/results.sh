#!/usr/bin/env bash
# Makes the runs behind docs/results.md: the embedded default and its controls, seed after seed.
#   tests/proofs/results.sh OUT [SEED ...]        (default: 42 43 44; OUT must be new or from an earlier try)
# Then: python3 tests/proofs/results.py OUT > docs/results.tables.md
set -euo pipefail
sipf=${SIPF:-target/release/sipf}
out=${1:?where the runs go}
shift
[ $# -gt 0 ] || set -- 42 43 44
all="--set evaluate.problems=2000"
for seed in "$@"; do
    base="$out/sipf-$seed"
    "$sipf" run --seed "$seed" $all --run-dir "$base"
    one="--seed $seed $all --iterations 1 --no-control --reuse $base"
    # Pairs by outcome alone, with the equation filter on the chosen side.
    "$sipf" run $one --method siof --equation-filter chosen --run-dir "$out/siof-$seed"
done
seed=$1
base="$out/sipf-$seed"
one="--seed $seed $all --iterations 1 --no-control --reuse $base"
"$sipf" run $one --method rft --equation-filter chosen --run-dir "$out/rft-$seed"
"$sipf" run $one --method prft --run-dir "$out/prft-$seed"
"$sipf" run $one --set rank-by=base-likelihood --run-dir "$out/base-likelihood-$seed"
"$sipf" run $one --set rank-by=policy-likelihood --run-dir "$out/policy-likelihood-$seed"
"$sipf" run $one --rollouts 1 --run-dir "$out/one-rollout-$seed"
