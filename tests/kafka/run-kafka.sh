#!/usr/bin/env bash
# Starts one Apache Kafka broker (KRaft, loopback) for tests of our client against the original.
#
#   run-kafka.sh DIR PORT [TLS]
#
# DIR keeps the broker's data and log; PORT is the client listener, PORT+1 the controller's. With TLS, a folder with
# broker.pem (key and certificate) and ca.pem, there are three listeners more: SASL_PLAINTEXT on PORT+2, SASL_SSL on
# PORT+3, and SSL, which wants a client certificate, on PORT+4. The user is alice, with the password alice-secret, under
# PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512; OAUTHBEARER takes unsecured tokens; sessions last two seconds. Prints READY when
# the broker takes connections and then stays in the foreground; SIGTERM or SIGINT stops the broker with it.
# Needs Java 17 or later and Maven. Jars are copied once to KAFKA_JARS (default: a folder in the user's cache).
set -euo pipefail

if [[ $# -lt 2 || $# -gt 3 ]]; then
  echo "usage: $0 DIR PORT [TLS]" >&2
  exit 2
fi
dir=$1
port=$2
tls=${3:-}
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

listeners=PLAINTEXT://127.0.0.1:$port
protocols=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
if [[ -n $tls ]]; then
  listeners+=,SASL_PLAINTEXT://127.0.0.1:$((port + 2)),SASL_SSL://localhost:$((port + 3)),SSL://localhost:$((port + 4))
  protocols+=,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL
fi

mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
cat > "$dir/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller_port
listeners=$listeners,CONTROLLER://127.0.0.1:$controller_port
advertised.listeners=$listeners
controller.listener.names=CONTROLLER
listener.security.protocol.map=$protocols
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

format=()
if [[ -n $tls ]]; then
  cat >> "$dir/server.properties" <<PROPERTIES
ssl.keystore.type=PEM
ssl.keystore.location=$tls/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location=$tls/ca.pem
listener.name.ssl.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
connections.max.reauth.ms=4000
PROPERTIES
  modules=org.apache.kafka.common.security
  for listener in sasl_plaintext sasl_ssl; do
    cat >> "$dir/server.properties" <<PROPERTIES
listener.name.$listener.plain.sasl.jaas.config=$modules.plain.PlainLoginModule required user_alice="alice-secret";
listener.name.$listener.scram-sha-256.sasl.jaas.config=$modules.scram.ScramLoginModule required;
listener.name.$listener.scram-sha-512.sasl.jaas.config=$modules.scram.ScramLoginModule required;
listener.name.$listener.oauthbearer.sasl.jaas.config=$modules.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";
PROPERTIES
  done
  for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do
    format+=(--add-scram "$mechanism=[name=alice,password=alice-secret]")
  done
fi

java_options=(-Xms256m -Xmx512m -cp "$jars/*")

if [[ ! -e $dir/data/meta.properties ]]; then
  java "${java_options[@]}" kafka.tools.StorageTool format --ignore-formatted \
    --cluster-id AAAAAAAAAAAAAAAAAAAAAA --config "$dir/server.properties" "${format[@]}" > "$dir/format.log" 2>&1 ||
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
