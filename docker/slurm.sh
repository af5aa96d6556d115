#!/usr/bin/env bash
#SBATCH --job-name=hpscan
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --output=hpscan-%j.log
# For GPUs: #SBATCH --gpus-per-node=4

# A Ray cluster for the length of a job, a sweep on it, and its end:
#
#   sbatch docker/slurm.sh quickstart --store /shared/results
#   sbatch --nodes=8 docker/slurm.sh spec.yaml --store s3://bucket/results
#
# All arguments go to `hpscan launch`. hpscan must be on the PATH of every node (a virtualenv on a shared file system,
# activated before sbatch, is enough), and the store must be one that all nodes reach. A job that ran out of time goes
# on where it stopped when it is submitted again. Not run on Slurm by its authors, see docs/cluster.md.
#
# (`ray symmetric-run` does nearly this, but ends with `ray stop`: on a shared node that ends your other jobs' Ray.)

set -euo pipefail

if (($# == 0)); then
    echo "usage: sbatch [OPTIONS] docker/slurm.sh SPEC [OPTIONS]" >&2
    exit 2
fi
: "${SLURM_JOB_ID:?this is a batch script: sbatch docker/slurm.sh SPEC}"

cpus=${SLURM_CPUS_PER_TASK:-1}
gpus=${SLURM_GPUS_ON_NODE:-0}
export SRUN_CPUS_PER_TASK=$cpus # srun no longer takes it from the job
export OMP_NUM_THREADS=1        # one thread a worker, one worker a core

# A token of this job alone; srun hands the environment on.
RAY_AUTH_TOKEN=$(python3 -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token GRPC_ENABLE_FORK_SUPPORT=0

# The batch script runs on the first node. Ports differ by job, since nodes may be shared; Ray's workers listen on
# 10002 to 19999.
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
read -r ip _ <<<"${HPSCAN_HEAD_IP:-$(hostname -I)}"
address=$ip:$((20000 + SLURM_JOB_ID % 10000))
scratch=/tmp/hpscan-$SLURM_JOB_ID

steps=()
end() {
    kill "${steps[@]}" 2>/dev/null || true # srun hands the signal on, and Ray stops
    wait "${steps[@]}" 2>/dev/null || true
    srun --overlap --ntasks-per-node=1 rm -rf "$scratch" || true
}
trap end EXIT

ray_node() { # srun's options, --, those of ray start
    local where=()
    while [[ $1 != -- ]]; do
        where+=("$1")
        shift
    done
    shift
    srun --overlap --ntasks-per-node=1 --kill-on-bad-exit=1 "${where[@]}" \
        ray start --block --num-cpus="$cpus" --num-gpus="$gpus" --temp-dir="$scratch" \
        --dashboard-agent-listen-port=0 --disable-usage-stats "$@" &
    steps+=($!)
}

ray_node --nodes=1 --ntasks=1 --nodelist="${nodes[0]}" -- \
    --head --node-ip-address="$ip" --port="${address##*:}" --include-dashboard=false \
    --ray-client-server-port=$((30000 + SLURM_JOB_ID % 10000))
until timeout 15 ray health-check --address "$address" >/dev/null 2>&1; do
    kill -0 "${steps[0]}" || {
        echo "slurm.sh: Ray's head did not start" >&2
        exit 1
    }
    ((SECONDS < 300)) || {
        echo "slurm.sh: Ray's head did not answer within 300 s at $address" >&2
        exit 1
    }
    sleep 1
done

if ((${#nodes[@]} > 1)); then
    ray_node --nodes=$((${#nodes[@]} - 1)) --ntasks=$((${#nodes[@]} - 1)) --relative=1 -- --address="$address"
fi
python3 - "$address" "${#nodes[@]}" <<'PYTHON'
import sys, time, ray

address, wanted = sys.argv[1], int(sys.argv[2])
ray.init(address=address, log_to_driver=False)
deadline = time.monotonic() + 300
while (alive := sum(node["Alive"] for node in ray.nodes())) < wanted:
    if time.monotonic() > deadline:
        sys.exit(f"slurm.sh: {alive} of {wanted} nodes joined within 300 s")
    time.sleep(1)
PYTHON

hpscan launch "$@" --address "$address"
