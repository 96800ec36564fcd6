#!/usr/bin/env bash
# Starts one Apache Kafka broker (KRaft, loopback) for tests of our client against the original.
#
#   run-kafka.sh DIR PORT
#
# DIR keeps the broker's data and log; PORT is the client listener, PORT+1 the controller's. Prints READY when the
# broker takes connections and then stays in the foreground; SIGTERM or SIGINT stops the broker with it.
# Needs Java 17 or later and Maven. Jars are copied once to KAFKA_JARS (default: a folder in the user's cache).
set -euo pipefail

if [[ $# -ne 2 ]]; then
  echo "usage: $0 DIR PORT" >&2
  exit 2
fi
dir=$1
port=$2
controller_port=$((port + 1))
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=$(sed -n 's|.*<kafka.version>\(.*\)</kafka.version>.*|\1|p' "$here/pom.xml")
jars=${KAFKA_JARS:-${XDG_CACHE_HOME:-$HOME/.cache}/highwater/kafka-$version}

if [[ ! -e $jars/.complete ]]; then
  mkdir -p "$jars"
  mvn --batch-mode --quiet -Dstyle.color=never --file "$here/pom.xml" dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$jars" >&2
  touch "$jars/.complete"
fi

mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
cat > "$dir/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller_port
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller_port
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$dir/data
num.partitions=1
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=true
PROPERTIES

java_options=(-Xms256m -Xmx512m -cp "$jars/*")

if [[ ! -e $dir/data/meta.properties ]]; then
  java "${java_options[@]}" kafka.tools.StorageTool format --ignore-formatted \
    --cluster-id AAAAAAAAAAAAAAAAAAAAAA --config "$dir/server.properties" > "$dir/format.log" 2>&1 ||
    { cat "$dir/format.log" >&2; exit 1; }
fi

java "${java_options[@]}" kafka.Kafka "$dir/server.properties" > "$dir/server.log" 2>&1 &
broker=$!
trap 'kill "$broker" 2>/dev/null; wait "$broker" 2>/dev/null; exit 0' TERM INT

for _ in $(seq 300); do
  if ! kill -0 "$broker" 2>/dev/null; then
    echo "the broker ended; see $dir/server.log" >&2
    exit 1
  fi
  if grep -qs "Kafka Server started" "$dir/server.log"; then
    echo READY
    wait "$broker"
    exit 0
  fi
  sleep 0.2
done
echo "the broker was not ready within a minute; see $dir/server.log" >&2
kill "$broker"
exit 1
