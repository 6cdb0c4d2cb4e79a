#!/usr/bin/env bash
# Short texts by the programs that were built with the sanitizers (config=asan) and under Vulkan's
# validation layer (config=debug), of which any finding ends the program.
. "$(dirname "$0")/lib.sh"
cd "$root" || exit 1

for config in asan debug; do
    program=build/$config/volley
    if [ ! -x "$program" ]; then
        skip "$config" "$program is not built"
        continue
    fi
    for options in '--kv int8' '--kv f16' '--repeat-penalty 1.1 --temp 0' '--draft-method chain'; do
        # shellcheck disable=SC2086 # options
        check_exit "$config, $options" 0 \
            "$program" run -p 'Once upon a time' -n 20 --seed 1 $options
        checked=$out
        # shellcheck disable=SC2086 # options
        "$volley" run -p 'Once upon a time' -n 20 --seed 1 $options >"$scratch/out" 2>/dev/null
        check_equal "$config, $options: the same text" "$(cat "$scratch/out")" "$checked"
    done
    check_exit "$config, logits" 0 "$program" logits -m models/stories15M-q8_0.gguf -p 'Once upon'
    check_exit "$config, devices" 0 "$program" devices
done
