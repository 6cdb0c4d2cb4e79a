/* What run, verify and logits do alike: load models, read the prompt, generate. */
#ifndef VLY_CLI_GENERATE_H
#define VLY_CLI_GENERATE_H

#include "cli/generate_options.h"

/* The exit status after Ctrl-C, as a shell reports a program that it ended. */
#define VLY_CLI_INTERRUPTED 130

/* Creates the engine for the options' models, the shipped pair where neither is given; without
 * `with_draft` there is none. A progress bar on stderr, where that is a terminal, if loading takes
 * longer than a second. Errors: those of vly_engine_create; VLY_E_NOT_FOUND (no shipped pair: names
 * the folders). */
int vly_cli_load(const vly_cli_options *o, bool with_draft, vly_engine **out, vly_error *err);

/* Finds the models as vly_cli_load does, and leaves the rest to `use`, whose `options` name them.
 */
typedef int (*vly_cli_use_models)(void *arg, const vly_engine_options *options, vly_error *err);
int vly_cli_find_models(const vly_cli_options *o, bool with_draft, vly_cli_use_models use,
                        void *arg, vly_error *err);

/* Appends the prompt: the text given, else the file's or standard input's, less one newline at its
 * end. Returns an exit status, the reason having been printed, or 0. */
int vly_cli_read_prompt(const char *command, const vly_cli_options *o, vly_text *prompt);

/* Appends what --chat-template means: a family's name as it is, or the text of a file.
 * VLY_E_NOT_FOUND (lists the names), those of vly_cli_read_text. */
int vly_cli_read_template(const char *asked, vly_text *text, vly_error *err);

/* Makes of a prompt that is a user's message (o->chat) the text of that conversation, as the
 * target's chat template spells it. Errors: those of vly_engine_apply_template. */
int vly_cli_spell_prompt(const vly_engine *engine, const vly_cli_options *o, vly_text *prompt,
                         vly_error *err);

/* A random seed that any JSON reader gives back exactly: below 2^53. VLY_E_IO. */
int vly_cli_random_seed(uint64_t *seed, vly_error *err);

/* What came of a request. Zero-initialise; vly_cli_generation_deinit frees it. */
typedef struct {
    bool is_answer; /* set by the caller: a space in front of the text is dropped, which models that
                       write one would otherwise begin their answers with; Ctrl-C never ends the
                       process */
    vly_ids prompt_ids, tokens;
    vly_text text; /* UTF-8 */
    vly_finish finish;
    vly_stats stats;
} vly_cli_generation;

/* Runs `request`, whose callbacks are filled in here, to its end. Text goes to `fd` at once as it
 * is decided, unless that is -1. Ctrl-C ends it with VLY_FINISH_CANCELLED; a second one ends the
 * process, unless it is an answer. Errors: those of vly_engine_start and of the run; VLY_E_IO (`fd`
 * cannot be written). */
int vly_cli_generate(vly_engine *engine, const vly_request *request, int fd,
                     vly_cli_generation *out, vly_error *err);
void vly_cli_generation_deinit(vly_cli_generation *generation);

/* Writes all of `n` bytes to `fd`. VLY_E_IO. */
int vly_cli_write(int fd, const char *data, size_t n, vly_error *err);

/* Ratios that are 0 where nothing was counted; the mean accepted length, 1 + accepted / blocks,
 * is 1. */
double vly_cli_tokens_per_second(const vly_stats *stats);
double vly_cli_acceptance_rate(const vly_stats *stats);
double vly_cli_mean_accepted_length(const vly_stats *stats);

#endif
