# Sourced by the shell tests (from anywhere inside the checkout). Prints one TAP line for each check;
# the plan comes last, so a script that dies half-way is noticed.
#
#   check NAME COMMAND...            passes when the command exits 0; its output is shown if it fails
#   check_exit NAME STATUS COMMAND.. passes when the command exits STATUS; leaves $out and $err behind
#   check_signal NAME STATUS SIGNAL WHEN COMMAND..
#                                    the same of one that is sent the signal once the shell command
#                                    WHEN succeeds, which may ask for the process $pid
#   check_equal NAME EXPECTED ACTUAL
#   check_match NAME PATTERN TEXT    passes when TEXT has a match of the extended regular expression
#   skip NAME REASON
#   wait_for COMMAND...              until it succeeds; fails after $patience seconds
#
# $volley is the program under test; $scratch a folder that goes away at the end. $endless is a model
# whose text no machine comes to the end of (minutes) before a test is done with it. No check asks how
# fast something is: what must happen is waited for, what must not end meanwhile cannot.
set -u
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
volley=${VOLLEY:-$root/build/release/volley}
scratch=$(mktemp -d)
n_checks=0
n_failed=0
out='' err=''
patience=400 # for what comes in a moment, or never
endless=synthetic:dim=64,layers=2,heads=4,kv_heads=2,ff=96,vocab=600,ctx=200000:q8_0

finish() {
    local status=$?
    rm -rf "$scratch"
    [ $status = 0 ] || exit $status
    echo "1..$n_checks"
    exit $((n_failed > 0))
}
trap finish EXIT

pass() {
    n_checks=$((n_checks + 1))
    echo "ok $n_checks - $1"
}

# fail NAME TEXT: the text says what was expected and what came; of a long one the middle is left out.
# The log of the server that runs, or ran last, follows (serve_lib.sh).
fail() {
    n_checks=$((n_checks + 1))
    n_failed=$((n_failed + 1))
    echo "not ok $n_checks - $1"
    {
        printf '%s\n' "$2" | awk 'NR <= 5 { print; next } { last[NR] = $0; delete last[NR - 40] }
            END { for (i = NR > 45 ? NR - 39 : 6; i <= NR; i++) print last[i] }'
        [ ! -s "${server_log:-}" ] || { # without the questions whether it is ready
            echo "$server_log:"
            grep -Ev 'path=/health status=503|"path":"/health","status":503' "$server_log" | tail -n 15
        }
    } | cut -c 1-4000 | sed 's/^/#   /'
}

skip() {
    n_checks=$((n_checks + 1))
    echo "ok $n_checks - $1 # SKIP $2"
}

check() {
    local name=$1 text
    shift
    if text=$("$@" 2>&1); then
        pass "$name"
    else
        fail "$name" "$* failed:"$'\n'"$text"$'\n'"$(show_files "$@")"
    fi
}

# Of the words those that are files of the test's own, with what is in them: what jq -e looked at.
# Not the server's log, of which `fail` shows the end.
show_files() {
    local word
    for word in "$@"; do
        [[ $word == "$scratch"/* && $word != "${server_log:-}" && -f $word ]] || continue
        echo "$word:"
        head -c 4000 "$word" | tr -d '\0'
    done
}

wait_for() {
    local end=$((SECONDS + patience))
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.05
    done
}

check_exit() {
    local name=$1 expected=$2 status=0
    shift 2
    "$@" >"$scratch/out" 2>"$scratch/err" </dev/null || status=$?
    check_status "$@"
}

check_signal() {
    local name=$1 expected=$2 signal=$3 when=$4 status=0 pid
    shift 4
    : >"$scratch/out" # WHEN may look at it
    "$@" >"$scratch/out" 2>"$scratch/err" </dev/null &
    pid=$!
    wait_for eval "$when || ! kill -0 $pid"
    kill -"$signal" $pid
    wait $pid || status=$?
    check_status "$@"
}

# The last part of these two, whose variables it takes; of the command.
check_status() {
    # Variables of the shell hold no NUL bytes; tests of binary output read the files.
    out=$(tr -d '\0' <"$scratch/out") err=$(tr -d '\0' <"$scratch/err")
    if [ $status = "$expected" ]; then
        pass "$name"
    else
        fail "$name" "$*: expected exit status $expected, got $status"$'\n'"$out"$'\n'"$err"
    fi
}

check_equal() {
    if [ "$2" = "$3" ]; then pass "$1"; else fail "$1" "expected: $2"$'\n'"got: $3"; fi
}

check_match() {
    if printf '%s\n' "$3" | grep -qE -- "$2"; then
        pass "$1"
    else
        fail "$1" "expected a match of: $2"$'\n'"in: $3"
    fi
}
