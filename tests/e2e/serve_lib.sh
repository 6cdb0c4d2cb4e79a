# Sourced by the server's tests, behind lib.sh: starts servers and speaks to them.
#
#   start_server OPTION...   starts one on $socket and waits until it is ready; $server is its process
#   start_loading OPTION...  the same without waiting
#   stop_server              SIGTERM; leaves the exit status in $status
#   request PATH [BODY] [CURL-OPTION...]
#                            leaves the answer's body in $out and its status in $code
#   metric NAME              the value of a metric, with its labels where it has some
#
# The server's lines are in $server_log.
socket=$scratch/v.sock
server=''
server_log=$scratch/log

start_loading() {
    "$volley" serve --socket "$socket" "$@" >"$scratch/stdout" 2>"$server_log" </dev/null &
    server=$!
}

is_ready() {
    curl -sf --unix-socket "$socket" http://volley/health
}

start_server() {
    start_loading "$@"
    wait_for eval 'is_ready || ! kill -0 "$server"'
    is_ready >/dev/null && return
    fail 'the server starts' 'expected it to be ready'
    exit 1
}

stop_server() {
    status=0
    kill -TERM "$server"
    wait "$server" || status=$?
    server=''
}
trap '[ -z "$server" ] || kill -9 "$server"; finish' EXIT

request() {
    local path=$1 body=${2:-}
    shift
    [ $# = 0 ] || shift
    code=$(curl -s --max-time $patience --unix-socket "$socket" -o "$scratch/body" -w '%{http_code}' \
        ${body:+-d "$body"} "$@" "http://volley$path")
    out=$(tr -d '\0' <"$scratch/body")
}

metric() {
    curl -s --unix-socket "$socket" http://volley/metrics |
        awk -v name="volley:$1 " 'index($0, name) == 1 { print $NF }'
}
