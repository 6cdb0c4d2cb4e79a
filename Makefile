# Volley. `make help` lists the targets; config=release|debug|asan|tsan chooses how to build.
config  ?= release
PREFIX  ?= /usr/local
DATADIR ?= $(PREFIX)/share/volley
GLSLC   ?= glslc
ifeq ($(origin CC),default)
  CC := gcc
endif
jobs    ?= $(shell nproc)
MAKEFLAGS += --no-print-directory

build := build/$(config)
version = $(shell sed -n 's/^\#define VLY_VERSION "\(.*\)"/\1/p' include/volley.h)
comma := ,
pkgs  := vulkan libuv libcjson libpcre2-8 libxxhash libedit

cflags_release := -O2 -DNDEBUG
cflags_debug   := -O1 -g -DVLY_VALIDATE=1
cflags_asan    := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
cflags_tsan    := -O1 -g -fsanitize=thread
ifeq ($(cflags_$(config)),)
  $(error config=$(config) is not one of release debug asan tsan)
endif

# These goals compile nothing and must work before the libraries are there.
ifneq ($(filter-out help format uninstall,$(or $(MAKECMDGOALS),all)),)
  ifneq ($(shell pkg-config --exists $(pkgs) && echo found),found)
    $(error libraries are missing: run ./deps.sh first)
  endif
  pkg_cflags := $(shell pkg-config --cflags $(pkgs))
  pkg_libs   := $(shell pkg-config --libs $(pkgs))
endif
CFLAGS  += -std=c17 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes \
           -Wmissing-prototypes -Wwrite-strings -Wvla -Werror -ffp-contract=off -fno-math-errno \
           $(cflags_$(config)) -Iinclude -Isrc -I. -I$(build)/shaders -MMD -MP \
           -DVLY_DATADIR='"$(DATADIR)"' $(pkg_cflags)
LDLIBS  += $(pkg_libs) -lhttp_parser -lm -lpthread
LDFLAGS += $(filter -fsanitize=%,$(cflags_$(config)))

c_files := $(sort $(wildcard src/*.c src/*/*.c drafts/*.c tests/*/*.c))
c_files += $(wildcard examples/*.c)
h_files := $(sort $(wildcard include/*.h src/*/*.h drafts/*.h tests/*/*.h))

lib_src  := $(sort $(wildcard src/*/*.c drafts/*.c))
lib_obj  := $(lib_src:%.c=$(build)/%.o)
test_src := $(sort $(wildcard tests/unit/test_*.c tests/kernels/test_*.c tests/e2e/test_*.c))
test_bin := $(test_src:%.c=$(build)/%)
preload := $(patsubst %.c,$(build)/%.so,$(sort $(wildcard tests/preload/*.c)))
test_support := $(patsubst %.c,$(build)/%.o,$(sort $(wildcard tests/support/*.c)))

# $(call say,WHAT) before a command shows one short line instead of it; V=1 shows the command.
say = $(if $(V),,@echo '  $1 $@' &&)

all: $(build)/volley $(build)/library/libvolley.a ## build the program and the library into build/<config>/

include shaders/shaders.mk
include tests/fuzz/fuzz.mk

# Rewritten when the compiler or a flag differs from the last build's, so that objects follow
# (PREFIX is among the flags: it says where the installed program finds its models).
flags := $(CC) $(CFLAGS) $(LDFLAGS) $(LDLIBS)
built := $(file <$(build)/flags)
$(build)/flags: $(if $(filter-out $(built),$(flags))$(filter-out $(flags),$(built)),always)
	@mkdir -p $(@D)
	@echo '$(subst ','\'',$(flags))' > $@

# Keeps what Vulkan drivers do out of the reports of sanitizers.
sanitizer := $(if $(filter asan tsan,$(config)),$(build)/tests/sanitizer/driver.o)

$(build)/volley: $(build)/src/main.o $(sanitizer) $(build)/libvolley.a
	$(call say,LINK) $(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(build)/libvolley.a: $(lib_obj) $(build)/shaders/embedded.o
	$(call say,AR) rm -f $@ && $(AR) rcs $@ $^

# What include/volley.h offers: without the commands, the benches and the server.
library_obj := $(filter-out $(build)/src/cli/% $(build)/src/bench/% $(build)/src/serve/%,$(lib_obj))
$(build)/library/libvolley.a: $(library_obj) $(build)/shaders/embedded.o
	@mkdir -p $(@D)
	$(call say,AR) rm -f $@ && $(AR) rcs $@ $^

$(build)/%.o: %.c $(build)/flags | $(shader_headers)
	@mkdir -p $(@D)
	$(call say,CC) $(CC) $(CFLAGS) -c -o $@ $<

# Where this test injects failures.
$(build)/tests/kernels/test_gpu_submit: private LDFLAGS += \
    $(addprefix -Wl$(comma)--wrap=,vkWaitSemaphores vkGetSemaphoreCounterValue \
      vkQueueSubmit vkCreatePipelineCache)
# The calls that this one counts.
$(build)/tests/e2e/test_steady: private LDFLAGS += \
    $(addprefix -Wl$(comma)--wrap=,malloc calloc realloc strdup getenv fopen vly_log \
      vkAllocateMemory vkCreateBuffer vkCreateComputePipelines vkBeginCommandBuffer)
# The calls that this one refuses.
$(build)/tests/e2e/test_shortage: private LDFLAGS += \
    $(addprefix -Wl$(comma)--wrap=,malloc calloc realloc strdup uv_async_init pthread_create \
      vkAllocateMemory vkCreateBuffer vkCreateBufferView vkCreateCommandPool \
      vkCreateDescriptorPool vkCreateDescriptorSetLayout vkCreateDevice vkCreatePipelineCache \
      vkCreatePipelineLayout vkCreateQueryPool vkCreateSemaphore vkCreateShaderModule \
      vkAllocateCommandBuffers vkAllocateDescriptorSets vkBeginCommandBuffer vkBindBufferMemory \
      vkCreateComputePipelines vkEndCommandBuffer vkMapMemory vkQueueSubmit vly_kv_reserve)
# An archive: a test that puts its own functions in place of the engine's links none that call it.
$(build)/tests/libsupport.a: $(test_support)
	$(call say,AR) rm -f $@ && $(AR) rcs $@ $^

$(test_bin): $(build)/%: $(build)/%.o $(build)/tests/libsupport.a $(sanitizer) $(build)/libvolley.a
	$(call say,LINK) $(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka

# What goes between a program and its libraries, for LD_PRELOAD; built without sanitizers.
$(preload): $(build)/%.so: %.c $(build)/flags
	@mkdir -p $(@D)
	$(call say,CC) $(CC) $(filter-out -fsanitize=% -fno-sanitize%,$(CFLAGS)) -fPIC -shared -o $@ $<

unit-bin:   $(filter $(build)/tests/unit/%,$(test_bin))
kernel-bin: $(filter $(build)/tests/kernels/%,$(test_bin))
e2e-bin:    $(filter $(build)/tests/e2e/%,$(test_bin)) $(build)/volley $(build)/library/libvolley.a $(preload)

demo: ## write a story with the shipped pair of models
	$(MAKE) -j$(jobs) all
	$(build)/volley run --echo -p "Once upon a time"

test: ## build and run every test: unit, kernels, end to end, fuzzing; ends in "N passed, N failed"
	$(MAKE) -j$(jobs) config=release e2e-bin
	$(MAKE) -j$(jobs) config=asan all unit-bin
	$(MAKE) -j$(jobs) config=debug all kernel-bin
	$(MAKE) -j$(jobs) fuzz-bin
	tests/run.sh tree unit kernels e2e fuzz

test-asan: ## run the unit, kernel and end-to-end tests under the address and UB sanitizers
	$(MAKE) -j$(jobs) config=asan unit-bin kernel-bin e2e-bin
	CONFIG=asan tests/run.sh unit kernels e2e

test-tsan: ## run the engine's and the server's tests under the thread sanitizer
	$(MAKE) -j$(jobs) config=tsan unit-bin e2e-bin
	CONFIG=tsan TESTS='*@(workers|engine|ahead|loading|serve)*' tests/run.sh unit e2e

test-kernels: ## run the kernel tests, in release and under the Vulkan validation layer
	$(MAKE) -j$(jobs) config=release kernel-bin
	$(MAKE) -j$(jobs) config=debug kernel-bin
	CONFIG='debug release' tests/run.sh kernels

bench: all ## speed of the shipped pair, without and with the draft, as CSV
	bench/pair.sh

format: ## format the C sources in place
	clang-format -i $(c_files) $(h_files)

lint: all ## formatting, layers of includes, clang's warnings, cppcheck; any finding is an error
	$(call say,FORMAT) clang-format --dry-run -Werror $(c_files) $(h_files)
	tests/run.sh tree
	$(call say,CLANG) clang -fsyntax-only $(filter-out -MMD -MP,$(CFLAGS)) $(c_files)
	$(call say,CPPCHECK) cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr \
	    --suppress=missingIncludeSystem --error-exitcode=1 -Iinclude -Isrc -I. -I$(build)/shaders \
	    src drafts

install: all ## install under DESTDIR and PREFIX (/usr/local)
	install -D -m 755 $(build)/volley $(DESTDIR)$(PREFIX)/bin/volley
	install -d $(DESTDIR)$(DATADIR)/models $(DESTDIR)$(PREFIX)/share/doc/volley
	install -m 644 models/*.gguf models/README.md $(DESTDIR)$(DATADIR)/models
	install -d $(DESTDIR)$(DATADIR)/prompts
	install -m 644 bench/prompts/*.jsonl bench/prompts/README.md $(DESTDIR)$(DATADIR)/prompts
	install -m 644 LICENSE LICENSES/*.txt NOTICE README.md docs/api.md docs/library.md \
	    $(DESTDIR)$(PREFIX)/share/doc/volley
	install -D -m 644 examples/story.c $(DESTDIR)$(PREFIX)/share/doc/volley/examples/story.c
	install -D -m 644 include/volley.h $(DESTDIR)$(PREFIX)/include/volley/volley.h
	install -D -m 644 src/base/error_codes.def $(DESTDIR)$(PREFIX)/include/volley/base/error_codes.def
	install -D -m 644 drafts/methods.def $(DESTDIR)$(PREFIX)/include/volley/drafts/methods.def
	install -D -m 644 $(build)/library/libvolley.a $(DESTDIR)$(PREFIX)/lib/libvolley.a
	install -d $(DESTDIR)$(PREFIX)/lib/pkgconfig
	sed 's,@PREFIX@,$(PREFIX),g; s,@VERSION@,$(version),g' share/volley.pc.in \
	    > $(DESTDIR)$(PREFIX)/lib/pkgconfig/volley.pc
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	install -m 644 share/volley.socket $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's,@PREFIX@,$(PREFIX),g' share/volley.service.in \
	    > $(DESTDIR)$(PREFIX)/lib/systemd/system/volley.service

uninstall: ## remove what install put there
	rm -f $(DESTDIR)$(PREFIX)/bin/volley
	rm -f $(DESTDIR)$(PREFIX)/lib/libvolley.a $(DESTDIR)$(PREFIX)/lib/pkgconfig/volley.pc
	rm -rf $(DESTDIR)$(PREFIX)/include/volley
	rm -f $(DESTDIR)$(PREFIX)/lib/systemd/system/volley.socket
	rm -f $(DESTDIR)$(PREFIX)/lib/systemd/system/volley.service
	rm -rf $(DESTDIR)$(DATADIR) $(DESTDIR)$(PREFIX)/share/doc/volley

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile shaders/shaders.mk tests/fuzz/fuzz.mk | expand -t 16
	@echo 'config=release|debug|asan|tsan, PREFIX=$(PREFIX), DESTDIR=, V=1, CC=$(CC), GLSLC=$(GLSLC)'

.PHONY: all always demo test test-asan test-tsan test-kernels bench format lint install uninstall help \
        unit-bin kernel-bin e2e-bin
.SECONDARY:
-include $(lib_obj:.o=.d) $(build)/src/main.d $(preload:.so=.d) $(test_src:%.c=$(build)/%.d) $(test_support:.o=.d)
