# Volley. `make help` lists the targets; config=release|debug|asan|tsan chooses how to build.
config ?= release
CC     ?= gcc
GLSLC  ?= glslc
PREFIX ?= /usr/local
DATADIR ?= $(PREFIX)/share/volley

build := build/$(config)
pkgs  := vulkan libuv libcjson libpcre2-8 libxxhash

cflags_release := -O2 -DNDEBUG
cflags_debug   := -O1 -g -DVLY_VALIDATE=1
cflags_asan    := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
cflags_tsan    := -O1 -g -fsanitize=thread
CFLAGS  += -std=c17 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes \
           -Wmissing-prototypes -Wwrite-strings -Wvla -Werror -ffp-contract=off -fno-math-errno \
           $(cflags_$(config)) -Iinclude -Isrc -I. -I$(build)/shaders -MMD -MP \
           -DVLY_DATADIR='"$(DATADIR)"' $(shell pkg-config --cflags $(pkgs))
LDLIBS  += $(shell pkg-config --libs $(pkgs)) -lm -lpthread
LDFLAGS += $(filter -fsanitize=%,$(cflags_$(config)))

ifeq ($(cflags_$(config)),)
  $(error config=$(config) is not one of release debug asan tsan)
endif

lib_src   := $(sort $(wildcard src/*/*.c drafts/*.c))
lib_obj   := $(lib_src:%.c=$(build)/%.o)
test_src  := $(sort $(wildcard tests/unit/*.c tests/kernels/*.c))
test_bin  := $(test_src:%.c=$(build)/%)
unit_bin   := $(filter $(build)/tests/unit/%,$(test_bin))
kernel_bin := $(filter $(build)/tests/kernels/%,$(test_bin))

all: $(build)/volley

include shaders/shaders.mk

$(build)/volley: $(build)/src/main.o $(build)/libvolley.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(build)/libvolley.a: $(lib_obj) $(build)/shaders/embedded.o
	rm -f $@ && $(AR) rcs $@ $^

$(build)/%.o: %.c | $(shader_headers)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -c -o $@ $<

$(test_bin): $(build)/%: $(build)/%.o $(build)/libvolley.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka

.PHONY: all
.SECONDARY:
-include $(lib_obj:.o=.d) $(build)/src/main.d $(test_src:%.c=$(build)/%.d)
