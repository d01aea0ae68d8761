#!/usr/bin/env bash
# Runs a spec on nodes of Slurm: Ray on all of them, the driver on the first. From the checkout, on
# a file system that all nodes share, with the environment's `bin` first in PATH:
#
#   sbatch --nodes=4 --gpus-per-node=8 --cpus-per-task=64 --time=24:00:00 \
#     deploy/slurm.sh jobs/x.yaml cluster.workers=32
#
# Two minutes before the time is over (or when it is preempted) the run saves, and the job is queued
# again: it goes on where it was. `scancel --signal=TERM --batch JOB` stops it in the same way, for
# good.
#SBATCH --job-name=humpty
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=humpty-%j.log
set -euo pipefail

if (($# == 0)); then
    echo "usage: sbatch [OPTIONS] $0 SPEC.yaml [KEY=VALUE ...]" >&2
    exit 2
fi

port=$((20000 + SLURM_JOB_ID % 2500 * 4)) # and the three above: several jobs may share a node
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
address="${nodes[0]}:$port"

# Who has no token runs nothing here: its file is this user's alone, and goes with the job.
umask 077
token=$(mktemp "${SLURM_SUBMIT_DIR:-$PWD}/.humpty-token-$SLURM_JOB_ID.XXXX")
python -c 'import secrets; print(secrets.token_hex(32), end="")' > "$token"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$token" RAY_ADDRESS="$address"
export RAY_TMPDIR="/tmp/humpty-$SLURM_JOB_ID"

# NODES COUNT OPTION...: Ray on nodes, until the job ends.
ray_on() {
    local on=$1 count=$2
    shift 2
    srun --overlap --nodes="$count" --ntasks="$count" --ntasks-per-node=1 --nodelist="$on" \
        ray start --block --num-cpus="${SLURM_CPUS_PER_TASK:-1}" \
        --dashboard-agent-listen-port=$((port + 3)) "$@" &
    steps+=("$!")
}

steps=() driver='' again='' told=''
# shellcheck disable=SC2329 # by traps, as the next
end() {
    rm -f "$token"
    if ((${#steps[@]})); then kill "${steps[@]}" 2> /dev/null || true; fi
}
# shellcheck disable=SC2329
save() {
    told=yes
    if [[ ! $driver ]]; then exit 130; fi
    kill -TERM "$driver" 2> /dev/null || true
}
trap end EXIT
trap 'again=yes; save' USR1
trap save TERM

ray_on "${nodes[0]}" 1 --head --port="$port" --dashboard-host=127.0.0.1 \
    --dashboard-port=$((port + 1)) --ray-client-server-port=$((port + 2))
if ((${#nodes[@]} > 1)); then
    others=$(IFS=,; echo "${nodes[*]:1}")
    ray_on "$others" $((${#nodes[@]} - 1)) --address="$address"
fi

# The run looks at what there is before it begins, so all nodes are awaited, for five minutes.
python - "${#nodes[@]}" << 'PYTHON'
import sys, time

import ray

wanted, end, there = int(sys.argv[1]), time.monotonic() + 300, 0
while there < wanted:
    if time.monotonic() > end:
        sys.exit(f"only {there} of {wanted} nodes came up; see their lines above")
    time.sleep(1)
    try:
        ray.init(log_to_driver=False, logging_level="ERROR")
        there = sum(node["Alive"] for node in ray.nodes())
        ray.shutdown()
    except ConnectionError:
        pass
PYTHON

python -m jobs run "$@" &
driver=$!
while true; do # a trap ends `wait`, while the driver is still saving
    code=0 told=''
    wait "$driver" || code=$?
    if [[ ! $told ]]; then break; fi
done
if [[ $again && $code == 130 ]]; then # 130: stopped, and saved
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
