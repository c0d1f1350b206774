#!/usr/bin/env bash
# A SLURM of one node, run by root on this machine, without systemd: munged, slurmctld, slurmd.
#   one_node.sh start | stop         eval "$(one_node.sh env)" then sets SLURM_CONF
# Its files are below $SLURM_ONE_NODE (default /tmp/dvlm-slurm). Ports: $SLURM_PORT (28817) and the next one.
set -euo pipefail
D=${SLURM_ONE_NODE:-/tmp/dvlm-slurm}
PORT=${SLURM_PORT:-28817}
CPUS=4  # advertised; may be more than there are
H=$(hostname -s)
export SLURM_CONF=$D/slurm.conf

alive() { [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }

configure() {
  mkdir -p "$D"/{state,spool,log,munge}
  chmod 755 "$D" "$D"/*
  [ -s "$D/munge/key" ] || dd if=/dev/urandom of="$D/munge/key" bs=128 count=1 status=none
  chmod 600 "$D/munge/key"
  # KillWait: seconds between TERM and KILL. cred_expire: a requeued job starts again after so many seconds.
  cat > "$SLURM_CONF" <<C
ClusterName=dvlm
SlurmctldHost=$H(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$D/munge/socket,cred_expire=5
SlurmctldPort=$PORT
SlurmdPort=$((PORT + 1))
StateSaveLocation=$D/state
SlurmdSpoolDir=$D/spool
SlurmctldPidFile=$D/slurmctld.pid
SlurmdPidFile=$D/slurmd.pid
SlurmctldLogFile=$D/log/slurmctld.log
SlurmdLogFile=$D/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=1,sched_interval=1,requeue_delay=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
MinJobAge=3600
KillWait=30
InactiveLimit=0
SlurmctldTimeout=300
SlurmdTimeout=300
MessageTimeout=60
RebootProgram=/bin/true
NodeName=$H NodeAddr=127.0.0.1 CPUs=$CPUS Boards=1 SocketsPerBoard=1 CoresPerSocket=$CPUS ThreadsPerCore=1 State=UNKNOWN
PartitionName=main Nodes=$H Default=YES MaxTime=INFINITE State=UP
C
}

start() {
  configure
  alive "$D/munge/pid" || munged --key-file="$D/munge/key" --socket="$D/munge/socket" --pid-file="$D/munge/pid" \
    --log-file="$D/log/munged.log" --seed-file="$D/munge/seed"
  alive "$D/slurmctld.pid" || slurmctld -f "$SLURM_CONF"
  alive "$D/slurmd.pid" || slurmd -f "$SLURM_CONF"
  for _ in $(seq 120); do
    timeout 10 sinfo -h -o %T 2>/dev/null | grep -qE '^(idle|mixed|allocated)$' && return 0
    sleep 0.5
  done
  echo "SLURM did not come up" >&2
  tail -n 20 "$D"/log/*.log >&2
  return 1
}

stop() {
  timeout 20 scancel --me 2>/dev/null || true
  local file pid
  for file in "$D/slurmd.pid" "$D/slurmctld.pid" "$D/munge/pid"; do
    alive "$file" || continue
    pid=$(cat "$file")
    kill "$pid"
    for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$pid" 2>/dev/null || true
  done
  rm -rf "$D"
}

case ${1:-} in
  start) start ;;
  stop) stop ;;
  env) echo "export SLURM_CONF=$SLURM_CONF" ;;
  *) sed -n 2,4p "$0"; exit 2 ;;
esac
