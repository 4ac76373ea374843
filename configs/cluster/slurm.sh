#!/bin/bash
# A Ray cluster inside a Slurm allocation, and a launch on it (harness/engine/README.md, section 10).
#
#     sbatch --nodes=2 --cpus-per-task=16 configs/cluster/slurm.sh benchmark --data /shared/mvtec3d
#
# Arguments are those of `relief run`. RELIEF_STORE is a folder that all nodes see. Preempted, out of
# time or with a lost node, the job goes back into the queue, and the same command goes on.

#SBATCH --job-name=relief
#SBATCH --ntasks-per-node=1
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120

set -euo pipefail
: "${RELIEF_STORE:?set it to a folder that all nodes see}"
command -v relief > /dev/null || { echo "relief is not on the PATH: activate its environment before sbatch"; exit 2; }

cpus=${SLURM_CPUS_PER_TASK:-$SLURM_CPUS_ON_NODE}
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
ip=$(hostname -I | awk '{ print $1 }')  # this script runs on the first node
address=$ip:$((20000 + SLURM_JOB_ID % 10000))

# Whoever reaches the port may run code as you, so a token of this job alone is asked for.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
# As the engine sets them for a Ray of its own (section 4).
export RAY_USAGE_STATS_ENABLED=0 RAY_ENABLE_UV_RUN_RUNTIME_ENV=0
export RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=1 RAY_worker_niceness=0

start() {  # nodes, how many, options of `ray start`
    srun --nodes="$2" --ntasks="$2" --ntasks-per-node=1 --cpus-per-task="$cpus" --nodelist="$1" \
        --kill-on-bad-exit=0 ray start "${@:3}" --num-cpus="$cpus" --block &
}

start "$head" 1 --head --node-ip-address="$ip" --port="${address#*:}" --include-dashboard=false
others=$((${#nodes[@]} - 1))
if [ "$others" -gt 0 ]; then
    start "$(IFS=,; echo "${nodes[*]:1}")" "$others" --address="$address"
fi

there() { ray status --address "$address" 2> /dev/null | grep -c '^ 1 node_' || true; }
for _ in $(seq 90); do
    [ "$(there)" -ge "${#nodes[@]}" ] && break
    sleep 2
done
echo "nodes=$(there) of=${#nodes[@]} address=$address restarts=${SLURM_RESTART_COUNT:-0}"

relief run "$@" --address "$address" &
launch=$!
stopped=false
trap 'stopped=true; kill -TERM "$launch" 2> /dev/null || true' TERM
code=0
wait "$launch" || code=$?
if $stopped; then  # `wait` returned for the signal; the launch still says good-bye
    wait "$launch" || code=$?
    [ "$code" -eq 0 ] || scontrol requeue "$SLURM_JOB_ID" || true  # preempted, it is queued already
fi
kill $(jobs -p) 2> /dev/null || true
exit "$code"
