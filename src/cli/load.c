/* Loading the models, reading the prompt. */
#include "base/log.h"
#include "cli/cli.h"
#include "cli/generate.h"
#include "cli/progress_line.h"
#include "store/store.h"
#include "text/chat_template.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/* ---- progress ---- */

static int draw_progress(void *arg, uint64_t done, uint64_t total)
{
    vly_progress_line *progress = arg;
    char bar[VLY_PROGRESS_BAR_BYTES];
    if (total == 0 || vly_progress_line_seconds(progress) < 1 ||
        !vly_progress_line_is_due(progress))
        return 0;
    double part = (double)done / (double)total;
    vly_progress_bar(part, bar);
    vly_progress_line_show(progress, "loading models %s %3.0f%% of %" PRIu64 " MiB", bar,
                           100 * part, total >> 20);
    return 0;
}

/* ---- chat templates ---- */

int vly_cli_read_template(const char *asked, vly_text *text, vly_error *err)
{
    if (vly_chat_template_has_name(asked))
        return vly_text_append(text, asked, strlen(asked))
                   ? vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a chat template")
                   : 0;
    if (access(asked, F_OK) == 0) return vly_cli_read_text(asked, text, err);
    vly_text names = {0};
    vly_chat_template_list(&names);
    int rc = vly_fail(err, VLY_E_NOT_FOUND,
                      "--chat-template: expected a file or one of %s; found no file '%s'",
                      names.data ? names.data : "", asked);
    vly_text_free(&names);
    return rc;
}

int vly_cli_spell_prompt(const vly_engine *engine, const vly_cli_options *o, vly_text *prompt,
                         vly_error *err)
{
    if (!o->chat) return 0;
    vly_chat_message messages[2];
    size_t n = 0, len;
    char *text;
    if (o->system) messages[n++] = (vly_chat_message){"system", o->system, strlen(o->system)};
    messages[n++] = (vly_chat_message){"user", prompt->data, prompt->len};
    int rc = vly_engine_apply_template(engine, messages, n, true, &text, &len, err);
    if (rc) return rc;
    vly_text_free(prompt);
    *prompt = (vly_text){text, len, len + 1};
    return 0;
}

/* ---- the interface ---- */

int vly_cli_find_models(const vly_cli_options *o, bool with_draft, vly_cli_use_models use,
                        void *arg, vly_error *err)
{
    char *shipped_target = NULL, *shipped_draft = NULL;
    vly_engine_options options = {.target = o->target,
                                  .draft = o->draft,
                                  .device = o->device,
                                  .n_ctx = o->n_ctx,
                                  .kv_f16 = o->kv_f16,
                                  .arch = o->arch};
    if (!o->target) {
        int rc = vly_store_find_shipped(&shipped_target, &shipped_draft, err);
        if (rc) return rc;
        options.target = shipped_target;
        if (!o->draft) options.draft = shipped_draft;
    }
    bool modelless = vly_draft_method_model_use(o->draft_method) == VLY_MODEL_UNUSED;
    if (!with_draft || modelless || (options.draft && strcmp(options.draft, "none") == 0))
        options.draft = NULL;
    if (with_draft && !modelless && !options.draft)
        vly_log(VLY_LOG_INFO, "cli", "no draft model: only n-grams are drafted");
    vly_text template = {0};
    int rc = o->chat_template ? vly_cli_read_template(o->chat_template, &template, err) : 0;
    if (o->chat_template) options.chat_template = template.data;
    if (!rc) rc = use(arg, &options, err);
    free(shipped_target);
    free(shipped_draft);
    vly_text_free(&template);
    return rc;
}

/* vly_cli_use_models */
static int create_engine(void *arg, const vly_engine_options *models, vly_error *err)
{
    vly_progress_line progress = vly_progress_line_begin();
    vly_engine_options options = *models;
    options.progress = draw_progress;
    options.progress_arg = &progress;
    int rc = vly_engine_create(&options, arg, err);
    vly_progress_line_clear(&progress);
    return rc;
}

int vly_cli_load(const vly_cli_options *o, bool with_draft, vly_engine **out, vly_error *err)
{
    int rc = vly_cli_find_models(o, with_draft, create_engine, out, err);
    if (rc) return rc;
    uint32_t n_ctx = vly_engine_get_info(*out)->n_ctx;
    if (n_ctx < o->n_ctx)
        vly_log(VLY_LOG_WARN, "cli",
                "-c %u: the target was made for a context of at most %u tokens, which is taken",
                o->n_ctx, n_ctx);
    return 0;
}

int vly_cli_read_prompt(const char *command, const vly_cli_options *o, vly_text *prompt)
{
    vly_error err;
    const char *text = o->text ? o->text : ""; /* so that an empty file's is no NULL */
    if (vly_text_append(prompt, text, strlen(text))) {
        vly_fail(&err, VLY_E_HOST_MEMORY, "no memory for the prompt");
        return vly_cli_fail(&err);
    }
    if (o->text) return 0;
    if (!o->file && isatty(STDIN_FILENO))
        return vly_cli_usage_error(
            command, "a prompt is missing: give -p TEXT or -f FILE, or pipe it to standard input");
    if (vly_cli_read_text(o->file, prompt, &err)) return vly_cli_fail(&err);
    if (prompt->len && prompt->data[prompt->len - 1] == '\n') prompt->data[--prompt->len] = '\0';
    return 0;
}

int vly_cli_random_seed(uint64_t *seed, vly_error *err)
{
    if (getrandom(seed, sizeof *seed, 0) != (ssize_t)sizeof *seed)
        return vly_fail(err, VLY_E_IO, "cannot get a random seed: %s", strerror(errno));
    *seed >>= 11;
    return 0;
}
