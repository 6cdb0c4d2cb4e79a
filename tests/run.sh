#!/usr/bin/env bash
# Runs built tests and counts them:  tests/run.sh SUITE...   (tree unit kernels e2e fuzz)
#
# Every test is a program that prints TAP lines ("ok 1 - name", "not ok 2 - name", "# SKIP"); cmocka
# does so when asked. One that dies, runs out of time, prints no result or fewer than it planned is a
# failure besides. At the end come the time of each suite, the slowest programs and, as the last line,
# the sum: "N passed, N failed" (", N skipped" where there are any).
# The exit status is 0 only when something ran and nothing failed.
#
# CONFIG          the configurations to test, instead of each suite's own
# TESTS           run only those whose names, or ends of names behind a '/', this pattern matches:
#                 '*serve*', test_serve_many, e2e/test_run.sh
# TEST_SECONDS    the longest that one program may take (1200): what hangs is ended, not what is slow
# FUZZ_SECONDS    how long each fuzzer runs (30)
set -u
cd "$(dirname "$0")/.." || exit 1

unset MAKEFLAGS MAKELEVEL # of a make that runs this
export CMOCKA_MESSAGE_OUTPUT=TAP
# A large quarantine of what Mesa's CPU device frees in every submission grows to many GB.
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=1:quarantine_size_mb=4:thread_local_quarantine_size_kb=64}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export VOLLEY=${VOLLEY:-$PWD/build/${CONFIG:-release}/volley}
# Where Mesa keeps what it compiled: all programs compute with the same kernels, and so does the next
# run.
export MESA_SHADER_CACHE_DIR=${MESA_SHADER_CACHE_DIR:-$PWD/build/shader-cache}
mkdir -p "$MESA_SHADER_CACHE_DIR"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export XDG_CACHE_HOME=$scratch/cache # tests neither need nor touch the user's pipeline cache

# Prints "passed failed skipped" of TAP on standard input, given the program's exit status `status`.
count='
/^ok / || /^not ok / { seen++; if (/# SKIP/) skipped++; else if (/^ok /) passed++; else failed++ }
/^1\.\.[0-9]+/ { planned += substr($1, 4) }
END {
    if (!seen || seen < planned || (status != 0 && !failed)) failed++
    print passed + 0, failed + 0, skipped + 0
}'
# Prints the failed results with the comments that follow each.
failures='/^not ok / { show = !/# SKIP/ } !/^(not ok |#)/ { show = 0 } show'

# run_test NAME COMMAND...: leaves the counts in $scratch/NAME.count and, when it failed, what there
# is to know in $scratch/NAME.failure.
run_test() {
    local name=$1 log=$scratch/${1//\//-} started=$SECONDS status passed=0 failed=1 skipped=0
    shift
    echo "$passed $failed $skipped" >"$log.count" # until there is a result
    timeout -k 10 "${TEST_SECONDS:-1200}" "$@" </dev/null >"$log.out" 2>"$log.err"
    status=$?
    read -r passed failed skipped <<<"$(awk -v status=$status "$count" "$log.out" || echo 0 1 0)"
    echo "$passed $failed $skipped" >"$log.count"
    echo "$((SECONDS - started)) $name" >>"$scratch/times"
    printf '%-44s %5d passed %3d failed %3d skipped %5d s\n' "$name" "$passed" "$failed" \
        "$skipped" $((SECONDS - started))
    [ "$failed" = 0 ] && return
    {
        echo "=== $name: exit status $status: $*"
        [ $status = 124 ] && echo "out of time after ${TEST_SECONDS:-1200} s"
        [ $status -gt 128 ] && echo "ended by signal $((status - 128))"
        [ $status -lt 124 ] || tail -n 3 "$log.out" # how far it came
        awk "$failures" "$log.out"
        tail -n 60 "$log.err"
    } >"$log.failure"
}

# start NAME COMMAND...: run_test beside as many others as `parallel` allows.
parallel=1
start() {
    # shellcheck disable=SC2053 # a pattern
    [[ $1 == ${TESTS:-*} || $1 == */${TESTS:-*} ]] || return 0
    while [ "$(jobs -rp | wc -l)" -ge "$parallel" ]; do wait -n; done
    run_test "$@" &
}

# start_built SUITE CONFIG...: every cmocka program of tests/SUITE as each CONFIG built it.
start_built() {
    local suite=$1 config source program
    shift
    for config in "$@"; do
        for source in tests/"$suite"/test_*.c; do
            [ -e "$source" ] || continue
            program=build/$config/${source%.c}
            start "$config/$suite/$(basename "$program")" "$program"
        done
    done
}

for suite in "$@"; do
    suite_started=$SECONDS
    parallel=1 # the GPU's driver and the timings of end-to-end tests want the machine for themselves
    case $suite in
    tree) start tree tests/tree.sh ;;
    unit)
        parallel=$(nproc)
        # shellcheck disable=SC2086 # a list
        start_built unit ${CONFIG:-asan}
        ;;
    kernels)
        # shellcheck disable=SC2086 # a list
        start_built kernels ${CONFIG:-debug}
        ;;
    e2e)
        # shellcheck disable=SC2086 # a list
        start_built e2e ${CONFIG:-release}
        for script in tests/e2e/test_*.sh; do
            [ -e "$script" ] && start "e2e/$(basename "$script")" bash "$script"
        done
        ;;
    fuzz)
        parallel=$(nproc)
        for source in tests/fuzz/fuzz_*.c; do
            name=$(basename "$source" .c)
            start "fuzz/$name" make -s "${name/fuzz_/fuzz-}" FUZZ_SECONDS="${FUZZ_SECONDS:-30}"
        done
        ;;
    *)
        echo "tests/run.sh: no suite is called '$suite'" >&2
        exit 2
        ;;
    esac
    wait
    echo "suite $suite: $((SECONDS - suite_started)) s" >>"$scratch/suites"
done

cat "$scratch"/*.failure 2>/dev/null
cat "$scratch/suites"
if [ ! -e "$scratch/times" ]; then
    echo "tests/run.sh: no test's name matches '${TESTS:-*}'" >&2
    exit 1
fi
echo "slowest: $(sort -rn "$scratch/times" | head -n 5 | sed 's/\([0-9]*\) \(.*\)/\2 \1 s/' |
    paste -sd, | sed 's/,/, /g')"
cat "$scratch"/*.count 2>/dev/null | awk '
    { passed += $1; failed += $2; skipped += $3 }
    END {
        printf "%d passed, %d failed%s\n", passed, failed, skipped ? ", " skipped " skipped" : ""
        exit !(passed > 0 && failed == 0)
    }'
