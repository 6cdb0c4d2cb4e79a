/* The options of run, chat, verify, logits and perplexity: one table says what each command takes,
 * in which range, with which default, and how help explains it. */
#ifndef VLY_CLI_GENERATE_OPTIONS_H
#define VLY_CLI_GENERATE_OPTIONS_H

#include "base/error.h"
#include "base/vec.h"
#include "cli/option_table.h"

typedef enum {
    VLY_CLI_RUN = 1,
    VLY_CLI_VERIFY = 2,
    VLY_CLI_LOGITS = 4,
    VLY_CLI_CHAT = 8,
    VLY_CLI_PERPLEXITY = 16
} vly_cli_generator;

typedef struct {
    const char *target, *draft; /* NULL: not given; see vly_cli_load */
    const char *device;
    const char *arch;
    uint32_t n_ctx;
    bool kv_f16;

    const char *text, *file; /* of the prompt */
    vly_ids ids;             /* the prompt as tokens (logits) */
    bool parse_special;
    bool chat;                 /* the prompt is a user's message */
    const char *system;        /* the system message in front of it, or NULL */
    const char *chat_template; /* NULL: the model's own; see vly_cli_load */

    uint32_t max_tokens;
    bool ignore_end;
    vly_sampling sampling; /* its bias is owned */
    bool has_seed;
    vly_draft_method draft_method;
    uint32_t draft_max;

    uint32_t n_seeds, n_top;
    uint32_t stride; /* of windows, in tokens; 0: see perplexity.c */
    bool echo, json, stats;
    uint32_t verbosity;
    uint64_t given; /* which options were there; see vly_cli_options_request */
} vly_cli_options;

/* Options of other commands too, whose own begin with a vly_cli_options: what sets kv_f16,
 * draft_method and draft_max. */
extern const vly_option_type vly_cli_kv_type, vly_cli_method_type, vly_cli_draft_max_type;

/* Parses the words of `command`. 0; or the exit status to end with, the reason having been printed;
 * or -1: help was printed, end with 0. In any case free with vly_cli_options_deinit. Configures the
 * log. */
int vly_cli_options_parse(vly_cli_generator command, int argc, char **argv, vly_cli_options *o);
void vly_cli_options_deinit(vly_cli_options *o);

/* The request that the options describe, with what the engine's target recommends where an option
 * was not given; prompt, callbacks and seed are left to the caller. Points into both. */
vly_request vly_cli_options_request(const vly_cli_options *o, const vly_engine *engine);

#endif
