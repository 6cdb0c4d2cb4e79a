#!/usr/bin/env bash
# Speed of the shipped pair, without a draft and with 1 to 8 drafted tokens a block, as CSV.
#
#   bench/pair.sh [OPTION OF volley run]...      for example --device 1, or --temp 0.7 --seed 1
#
# A row sums one run for each prompt of bench/prompts/stories.txt, after one run that is not counted
# (pipelines compile on first use). N_TOKENS (48) is the length of a run. Needs jq.
set -euo pipefail
case ${1-} in
-h | --help)
    sed -n 's/^# \{0,1\}//; 2,/Needs jq/p' "$0"
    exit 0
    ;;
esac
cd "$(dirname "$0")/.."
volley=${VOLLEY:-build/release/volley}

# runs OPTION...: one line of statistics in JSON for each prompt.
runs() {
    local prompt
    while read -r prompt; do
        "$volley" run --json --temp 0 -n "${N_TOKENS:-48}" -p "$prompt" "$@" </dev/null
    done <bench/prompts/stories.txt
}

"$volley" run --json -n 8 -p Once "$@" </dev/null >/dev/null

echo 'draft_max,tokens,tokens_per_second,blocks,drafted,accepted,mean_accepted_length,draft_ms,verify_ms'
for draft_max in 0 1 2 3 4 6 8; do
    if [ $draft_max = 0 ]; then draft=(-d none); else draft=(--draft-method model --draft-max $draft_max); fi
    runs "${draft[@]}" "$@" | jq -rs --argjson draft_max $draft_max '
        map(.stats)
        | def sum(f): map(f // 0) | add;
          sum(.generated_tokens) as $tokens | sum(.blocks) as $blocks | sum(.accepted) as $accepted
        | [ $draft_max, $tokens, $tokens * 1000 / sum(.generate_ms), $blocks, sum(.drafted),
            $accepted, (if $draft_max > 0 then 1 + $accepted / $blocks else 1 end),
            sum(.draft_ms), sum(.verify_ms) ]
        | map(. * 1000 | round / 1000) | @csv'
done
