#!/usr/bin/env bash
# Tries Containerfile and compose.yaml for real, with podman: build, start, publish, check, stop, start
# again, publish the same again. Works under names of its own and removes all it made.
set -euo pipefail
cd "$(dirname "$0")/../.."

project=event-aggregator-try-$$
export EVENT_AGGREGATOR_TAG=try-$$
image=localhost/event-aggregator:$EVENT_AGGREGATOR_TAG

main() {
  require podman podman-compose python3
  EVENT_AGGREGATOR_PORT=${EVENT_AGGREGATOR_PORT:-$(free_port)}
  export EVENT_AGGREGATOR_PORT
  url=http://127.0.0.1:$EVENT_AGGREGATOR_PORT
  log=$(mktemp)
  trap clean_up EXIT

  # --layers=false: no layer stays behind, and nothing comes from an earlier build
  check 'the image is built' compose --podman-build-args=--layers=false build
  check 'both services start' compose up -d
  check 'loadgen ends with 0: everything is stored once' ends_with_0 loadgen
  expect 'unique_processed' 4000 "$(statistic unique_processed)"
  duplicates=$(statistic duplicate_dropped)

  expect 'user and group of the service' 10001:10001 "$(in_service 'id -u'):$(in_service 'id -g')"
  expect 'its capabilities' 0000000000000000 "$(of_process_1 CapBnd)"
  expect 'it can gain no privileges' 1 "$(of_process_1 NoNewPrivs)"
  check 'its root is read-only, even for root' root_is_read_only
  check 'it can write to /data and /tmp' in_service 'touch /data/x /tmp/x && rm /data/x /tmp/x'
  expect 'it is published on' "127.0.0.1:$EVENT_AGGREGATOR_PORT" "$(published)"
  check 'no other address of this machine answers' refused_elsewhere
  check 'the health check passes' is_healthy
  check 'it fails where nothing listens' unhealthy_without_service
  check 'the image alone does not start without tokens' refused_without_tokens
  check 'with a token it does, and asks for it' asks_for_a_token

  check 'the service stops on SIGTERM' compose stop aggregator
  expect 'its exit code' 0 "$(exit_code aggregator)"
  check 'everything is taken down' compose down
  expect 'containers left' '' "$(container aggregator)$(container loadgen)"

  check 'the service starts alone' compose up -d aggregator
  expect 'loadgen, meanwhile' '' "$(container loadgen)"
  check 'it gets ready' becomes_ready
  expect 'unique_processed, still' 4000 "$(statistic unique_processed)"
  expect 'duplicate_dropped, still' "$duplicates" "$(statistic duplicate_dropped)"
  check 'loadgen starts' compose up -d
  check 'loadgen ends with 0: all of it is a duplicate' ends_with_0 loadgen
  expect 'unique_processed, still' 4000 "$(statistic unique_processed)"
  expect 'duplicate_dropped' $((duplicates + 5000)) "$(statistic duplicate_dropped)"
}

require() {
  local tool missing=()
  for tool; do command -v "$tool" >/dev/null || missing+=("$tool"); done
  ((${#missing[@]} == 0)) && return
  echo "The containers cannot be tried: ${missing[*]} not found." >&2
  echo 'Install podman with the system (apt install podman), podman-compose with pip or the system.' >&2
  exit 1
}

# 8080 if nothing has it, else any.
free_port() {
  python3 - <<'END'
import socket

for port in (8080, 0):
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("", port))
        except OSError:
            continue
        print(one.getsockname()[1])
        break
END
}

compose() { podman-compose -f compose.yaml -p "$project" "$@"; }

# The id of a service's container, if there is one.
container() {
  podman ps -aq --filter "label=com.docker.compose.project=$project" \
    --filter "label=com.docker.compose.service=$1"
}

in_service() { podman exec "$(container aggregator)" sh -c "$1"; }

of_process_1() { in_service "sed -n 's/^$1:[[:space:]]*//p' /proc/1/status"; }

root_is_read_only() {
  ! podman exec --user 0 "$(container aggregator)" touch /x 2>&1 || return 1
  in_service 'grep -E "^[^ ]+ / [^ ]+ ro," /proc/mounts'
}

exit_code() { podman inspect --format '{{.State.ExitCode}}' "$(container "$1")"; }

published() { podman port "$(container aggregator)" 8080/tcp; }

statistic() {
  python3 - "$url/stats" "$1" <<'END'
import json, sys, urllib.request

direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
print(json.load(direct.open(sys.argv[1], timeout=10))[sys.argv[2]])
END
}

ends_with_0() {
  local deadline=$((SECONDS + 180)) state
  while
    state=$(podman inspect --format '{{.State.Status}}' "$(container "$1")")
    [[ $state != exited ]]
  do
    ((SECONDS < deadline)) || { echo "$1 is $state after 180 s"; return 1; }
    sleep 0.2
  done
  [[ $(exit_code "$1") == 0 ]]
}

is_healthy() {
  podman inspect --format '{{.Config.Healthcheck.Test}}' "$(container aggregator)" |
    grep 'aggregator health' || return 1
  podman healthcheck run "$(container aggregator)"
}

becomes_ready() {
  local deadline=$((SECONDS + 60))
  until is_healthy; do
    ((SECONDS < deadline)) || return 1
    sleep 0.2
  done
}

unhealthy_without_service() {
  local status=0
  podman run --rm --timeout 60 --network none "$image" health || status=$?
  ((status == 1))
}

refused_without_tokens() {
  local status=0
  podman run --rm --timeout 60 "$image" serve || status=$?
  ((status == 2))
}

asks_for_a_token() {
  local name=$project-token answer token
  token=$(podman run --rm --entrypoint sh "$image" -c \
    'aggregator token new a --scope read --tokens /tmp/t.json; cat /tmp/t.json >&2' 2>"$log.tokens")
  sed -n '/^{/,$p' "$log.tokens" >"$log.json"
  podman run -d --rm --name "$name" --entrypoint sh -e AGGREGATOR_TOKENS=/tmp/t.json -e KEPT="$(<"$log.json")" \
    "$image" -c 'printf %s "$KEPT" >/tmp/t.json && exec aggregator serve'
  rm -f "$log.tokens" "$log.json"
  local deadline=$((SECONDS + 60))
  until podman exec "$name" aggregator health; do
    ((SECONDS < deadline)) || return 1
    sleep 0.2
  done
  answer=0
  podman exec "$name" aggregator token whoami || answer=$?
  podman exec -e AGGREGATOR_TOKEN="$token" "$name" aggregator token whoami || answer=2
  podman stop -t 20 "$name"
  ((answer == 1))
}

# The address is the one that this machine would use to reach the outside; nothing is sent there.
refused_elsewhere() {
  python3 - "$EVENT_AGGREGATOR_PORT" <<'END'
import socket, sys

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
    try:
        route.connect(("192.0.2.1", 9))
    except OSError:
        sys.exit(print("this machine has no other address"))
    address = route.getsockname()[0]
try:
    socket.create_connection((address, int(sys.argv[1])), timeout=5).close()
except OSError as error:
    sys.exit(print(address, error))
sys.exit(f"{address} answers too")
END
}

check() {
  local what=$1
  shift
  printf '\n== %s\n' "$what" >>"$log"
  "$@" >>"$log" 2>&1 || fail "$what"
  printf 'ok    %s\n' "$what"
}

expect() {
  [[ $3 == "$2" ]] || fail "$1: '$3', not '$2'"
  printf 'ok    %s: %s\n' "$1" "${3:-none}"
}

fail() {
  printf 'FAIL  %s\n' "$1" >&2
  exit 1
}

clean_up() {
  local status=$? service
  trap - EXIT
  set +e
  if ((status)); then
    for service in loadgen aggregator; do
      printf '\n== what %s said\n' "$service"
      podman logs --tail 40 "$(container $service)"
    done >>"$log" 2>&1
    tail -n 120 "$log" >&2
  fi
  {
    compose down --volumes
    podman rmi -f "$image"
  } >>"$log" 2>&1
  rm -f "$log"
  exit "$status"
}

main
echo 'The containers work.'
