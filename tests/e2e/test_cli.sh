#!/usr/bin/env bash
# What holds for the command line whatever the commands are: help, versions, wrong usage.
. "$(dirname "$0")/lib.sh"

# wrong_usage NAME ARGUMENT...: exit status 2, a message on standard error, nothing on standard output.
wrong_usage() {
    local name=$1
    shift
    check_exit "$name: exit status 2" 2 "$volley" "$@"
    check_equal "$name: standard output stays empty" '' "$out"
    check_match "$name: standard error says why" '[a-z]' "$err"
}

check_exit 'volley --help exits 0' 0 "$volley" --help
check_equal 'and writes nothing to standard error' '' "$err"
help=$out
for command in run verify logits tokenize inspect devices; do
    check_match "it lists $command" "^ +$command( |$)" "$help"
done

check_exit 'volley --version exits 0' 0 "$volley" --version
version=$(sed -n 's/^#define VLY_VERSION "\(.*\)"/\1/p' "$root/include/volley.h")
check_equal 'and prints the version of the header' "volley $version" "$out"

wrong_usage 'no command'
wrong_usage 'a word too many' --version too-many
wrong_usage 'unknown command' no-such-command
check_match 'unknown command: it is named' 'no-such-command' "$err"
wrong_usage 'unknown option' --no-such-option
wrong_usage 'help with too many words' help run too-many
check_match 'help with too many words: the first of them is named' 'too-many' "$err"

# The commands are the words that begin the indented lines below a line "Commands" or "commands:".
commands=$(printf '%s\n' "$help" |
    awk '/^[A-Za-z]/ { inside = /^[Cc]ommands/ } inside && /^ +[a-z]/ { print $1 }')
check_match 'help has a list of commands' '[a-z]' "$commands"
for command in $commands; do
    check_exit "$command --help exits 0" 0 "$volley" "$command" --help
    check_match "$command --help goes to standard output" "volley $command" "$out"
    check_equal "$command --help leaves standard error empty" '' "$err"
    check_equal "$command --help fits 80 columns" '' "$(awk 'length > 80' <<<"$out")"
    check_equal "help $command is the same" "$out" "$("$volley" help "$command")"
    check_equal "--help $command, too" "$out" "$("$volley" --help "$command")"
    wrong_usage "$command, unknown option" "$command" --no-such-option
    check_match "$command, unknown option: it is named" 'no-such-option' "$err"
done

check_equal 'volley --help fits 80 columns' '' "$(awk 'length > 80' <<<"$help")"
for bench in $("$volley" bench --help | awk '/^ / { print $1 }'); do
    check_exit "bench $bench --help" 0 "$volley" bench "$bench" --help
    check_match "bench $bench --help tells how to call it" "^usage: volley bench $bench " "$out"
    check_equal "bench $bench --help fits 80 columns" '' "$(awk 'length > 80' <<<"$out")"
    check_equal "help bench $bench is the same" "$out" "$("$volley" help bench "$bench")"
done
wrong_usage 'help with too many words of a bench' help bench decode too-many
wrong_usage 'help for a bench that there is not' help bench nothing

# A full disk or a closed pipe is a failure, not a success with nothing written.
if [ -w /dev/full ]; then
    check_exit 'help to a full disk exits 1' 1 sh -c '"$1" --help >/dev/full' sh "$volley"
    printf '{"text":"a"}\n{"text":"b"}\n' >"$scratch/lines"
    check_exit 'tokenized lines to a full disk exit 1' 1 \
        sh -c '"$1" tokenize -m "$2" --jsonl <"$3" >/dev/full' sh "$volley" \
        "$root/models/smol-stories-11M-q8_0.gguf" "$scratch/lines"
    check_equal 'and the reason is told once' \
        'volley: error: cannot write to standard output: No space left on device' "$err"
fi
check_exit 'help to a file that may not grow exits 1' 1 \
    sh -c 'ulimit -f 0; "$1" --help >"$2"' sh "$volley" "$scratch/limited"
