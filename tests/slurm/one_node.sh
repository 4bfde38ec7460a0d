#!/usr/bin/env bash
# A SLURM cluster of one node for tests, as root: one_node.sh FOLDER GPUS PORT. All its files are in FOLDER.
# It uses PORT and the next two ports.
# Needs Debian's slurmctld, slurmd, slurmdbd, slurm-client, munge and mariadb-server. The GPUs are simulated by /dev/tty
# files. The script prints `ready` when jobs can be submitted with SLURM_CONF=FOLDER/slurm.conf, and runs until it is
# killed. Then it ends all that it started.
set -euo pipefail
folder=$1 gpus=$2 port=$3
host=$(hostname -s)
cores=$(nproc)
memory=$(($(awk '/^MemTotal/ {print $2}' /proc/meminfo) / 1024 - 200))
started=()
end() {
  for ((index = ${#started[@]} - 1; index >= 0; index--)); do kill "${started[index]}" 2>/dev/null || true; done
  wait || true
}
trap end EXIT
trap 'exit 0' TERM INT
start() { # start NAME COMMAND…: run a daemon in the foreground of its own log
  local name=$1
  shift
  "$@" >"$folder/$name.log" 2>&1 &
  started+=($!)
}
until_true() { # until_true SECONDS COMMAND…
  local left=$1
  shift
  until "$@" >/dev/null 2>&1; do
    ((left-- > 0)) || { echo "one_node.sh: '$*' failed" >&2; tail -n 5 "$folder"/*.log >&2; exit 1; }
    sleep 1
  done
}

mkdir -p "$folder"/{spool,state,mysql,munge}
chmod 755 "$folder"
export SLURM_CONF=$folder/slurm.conf MYSQL_UNIX_PORT=$folder/mysql.sock

dd if=/dev/urandom bs=1 count=1024 of="$folder/munge/key" status=none
chmod 400 "$folder/munge/key"
chmod 711 "$folder/munge"
start munged munged --foreground --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
  --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" --seed-file="$folder/munge/seed"

mariadb-install-db --no-defaults --user=root --datadir="$folder/mysql" --auth-root-authentication-method=socket \
  --skip-test-db >"$folder/mysql-install.log" 2>&1
start mariadb mariadbd --no-defaults --user=root --datadir="$folder/mysql" --socket="$MYSQL_UNIX_PORT" \
  --skip-networking --pid-file="$folder/mysql.pid"
until_true 60 mariadb --no-defaults --socket="$MYSQL_UNIX_PORT" -e "select 1"
mariadb --no-defaults --socket="$MYSQL_UNIX_PORT" -e "create database slurm; create user slurm@localhost identified by
  'slurm'; grant all on slurm.* to slurm@localhost"

cat >"$folder/slurmdbd.conf" <<END
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
DbdHost=$host
DbdPort=$((port + 2))
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
PidFile=$folder/slurmdbd.pid
LogFile=$folder/slurmdbd.log
END
chmod 600 "$folder/slurmdbd.conf"
cat >"$folder/cgroup.conf" <<END
CgroupPlugin=cgroup/v1
CgroupAutomount=no
END
gres="" types=""
if ((gpus)); then
  echo "NodeName=$host Name=gpu File=/dev/tty[1-$gpus]" >"$folder/gres.conf"
  gres=" Gres=gpu:$gpus" types="GresTypes=gpu"
fi
cat >"$folder/slurm.conf" <<END
ClusterName=one_node
SlurmctldHost=$host
SlurmctldPort=$port
SlurmdPort=$((port + 1))
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
SlurmUser=root
SlurmdUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1024
ReturnToService=2
MpiDefault=none
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=$host
AccountingStoragePort=$((port + 2))
AccountingStoragePass=$folder/munge/socket
KillWait=2
$types
NodeName=$host CPUs=$cores RealMemory=$memory State=UNKNOWN$gres
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
start slurmdbd slurmdbd -D
until_true 60 sacctmgr --immediate --noheader show cluster
sacctmgr --immediate add cluster one_node >"$folder/sacctmgr.log" 2>&1 || true
start slurmctld slurmctld -D -c
start slurmd slurmd -D -N "$host"
until_true 60 sinfo --noheader --states=idle --format=%n
until_true 60 bash -c "sinfo --noheader --states=idle --format=%n | grep --quiet $host"
echo ready
wait -n
