# Fuzzing with clang's libFuzzer. Included by the Makefile. Every tests/fuzz/fuzz_X.c is a fuzzer of
# the layers that need no GPU; tests/fuzz/corpus/X holds its seeds and tests/fuzz/X.dict, where there
# is one, its words. What a run finds worth keeping stays in build/fuzz/corpus/X for the next.
FUZZ_CC      ?= clang
FUZZ_SECONDS ?= 60

fuzz_pkgs   := libcjson libpcre2-8 libxxhash
fuzz_cflags := -std=c17 -D_GNU_SOURCE -O1 -g -fsanitize=fuzzer-no-link,address,undefined \
               -fno-sanitize-recover=all -fno-omit-frame-pointer -Iinclude -Isrc -I. -MMD -MP \
               -DVLY_DATADIR='""'
fuzz_names  := $(patsubst tests/fuzz/fuzz_%.c,%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
fuzz_obj    := $(patsubst %.c,build/fuzz/%.o,$(sort \
                 $(wildcard src/base/*.c src/gguf/*.c src/text/*.c src/sample/*.c src/store/*.c \
                 drafts/names.c $(addprefix src/model/,arch.c arch_json.c config.c repack.c rope.c tensors.c) \
                 $(addprefix src/serve/,api_error.c fields.c http.c openai_request.c \
                 writer.c) tests/support/gguf_*.c tests/support/tokenizer_*.c \
                 tests/support/vocabulary.c)))

build/fuzz/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC) $(FUZZ_CC) $(fuzz_cflags) $$(pkg-config --cflags $(fuzz_pkgs)) -c -o $@ $<

$(fuzz_names:%=build/fuzz/fuzz_%): build/fuzz/%: build/fuzz/tests/fuzz/%.o $(fuzz_obj)
	$(call say,LINK) $(FUZZ_CC) -fsanitize=fuzzer,address,undefined -o $@ $^ \
	    $$(pkg-config --libs $(fuzz_pkgs)) -lhttp_parser -lm

$(fuzz_names:%=fuzz-%): fuzz-%: build/fuzz/fuzz_%
	@mkdir -p build/fuzz/corpus/$*
	@for seed in tests/fuzz/corpus/$*/*; do [ ! -e "$$seed" ] || cp "$$seed" build/fuzz/corpus/$*; done
	$< -max_total_time=$(FUZZ_SECONDS) -timeout=60 -rss_limit_mb=2048 -malloc_limit_mb=512 \
	    -verbosity=0 -print_final_stats=1 -artifact_prefix=build/fuzz/$*- \
	    $(patsubst %,-dict=%,$(wildcard tests/fuzz/$*.dict)) build/fuzz/corpus/$*
	@echo 'ok - fuzz $*, $(FUZZ_SECONDS) seconds'

fuzz-bin: $(fuzz_names:%=build/fuzz/fuzz_%)
fuzz: $(fuzz_names:%=fuzz-%) ## run every fuzzer for FUZZ_SECONDS (60), or one: fuzz-gguf

.PHONY: fuzz fuzz-bin $(fuzz_names:%=fuzz-%)
-include $(fuzz_obj:.o=.d) $(fuzz_names:%=build/fuzz/tests/fuzz/fuzz_%.d)
