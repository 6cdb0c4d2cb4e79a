/* volley bench spec: what speculation gains on real prompts. Every prompt is written in every
 * configuration, one after the other, so that what else happens on the machine meets all alike; all
 * texts of a prompt and a seed must be the same. */
#include "bench/spec.h"

#include "cli/generate.h"
#include "cli/progress_line.h"
#include "store/store.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROMPTS_FOLDER "prompts", "bench/prompts"

/* ---- the grid ---- */

static bool has_auto(const vly_bench_options *o)
{
    for (size_t i = 0; i < o->sizes.len; i++)
        if (o->sizes.data[i] == VLY_SPEC_AUTO) return true;
    return false;
}

/* Is k of use, where a mean accepted length may be forced? */
static bool takes_k(const vly_bench_options *o, uint32_t k)
{
    return k > 0 && k != VLY_SPEC_AUTO && k + 1 >= o->accept;
}

static void add_config(vly_spec *s, vly_spec_config c, size_t base)
{
    c.base = base;
    s->configs[s->n_configs++] = c;
}

/* Plain decoding comes first of what it is compared with. */
static int make_configs(vly_spec *s, vly_error *err)
{
    const vly_bench_options *o = s->options;
    vly_draft_method usual = s->draft ? VLY_DRAFT_MODEL : VLY_DRAFT_NGRAM;
    size_t n_methods = o->methods.len ? o->methods.len : 1;
    size_t n = o->kvs.len * o->temperatures.len * (n_methods * o->sizes.len + 2);
    s->configs = calloc(n, sizeof *s->configs);
    if (!s->configs) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the grid");
    for (size_t kv = 0; kv < o->kvs.len; kv++)
        for (size_t t = 0; t < o->temperatures.len; t++) {
            size_t base = s->n_configs;
            vly_spec_config c = {.kv_f16 = o->kvs.data[kv],
                                 .temperature = (float)o->temperatures.data[t]};
            add_config(s, c, base);
            for (size_t m = 0; m < n_methods; m++)
                for (size_t i = 0; i < o->sizes.len; i++) {
                    c.method = o->methods.len ? (vly_draft_method)o->methods.data[m] : usual;
                    c.k = o->sizes.data[i];
                    if (takes_k(o, c.k)) add_config(s, c, base);
                }
            c.method = VLY_DRAFT_AUTO;
            c.k = VLY_SPEC_AUTO;
            if (has_auto(o)) add_config(s, c, base);
        }
    return 0;
}

vly_spec_cell *vly_spec_cell_of(const vly_spec *s, size_t config, size_t prompt)
{
    return &s->cells[prompt * s->n_configs + config];
}

/* ---- texts ---- */

typedef struct {
    vly_ids ids;
    vly_text text;
    vly_stats stats;
    vly_error *err;
    int rc;
} written;

static void on_tokens(void *arg, const uint32_t *ids, const vly_token_logprobs *logprobs,
                      uint32_t n, const char *text, size_t len)
{
    written *w = arg;
    (void)logprobs;
    if (w->rc == 0 && (vly_ids_append(&w->ids, ids, n) || vly_text_append(&w->text, text, len)))
        w->rc = vly_fail(w->err, VLY_E_HOST_MEMORY, "no memory for a text");
}

static void on_finish(void *arg, vly_finish finish, const vly_stats *stats, const char *text,
                      size_t len, const vly_error *err)
{
    written *w = arg;
    w->stats = *stats;
    if (w->rc == 0 && vly_text_append(&w->text, text, len))
        w->rc = vly_fail(w->err, VLY_E_HOST_MEMORY, "no memory for a text");
    if (finish == VLY_FINISH_ERROR) w->rc = vly_fail(w->err, err->code, "%s", err->message);
}

static int write_text(const vly_spec *s, const vly_spec_config *c, uint64_t seed,
                      const char *prompt, size_t len, written *w, vly_error *err)
{
    vly_request request = {.prompt = prompt,
                           .prompt_len = len,
                           .parse_special = s->templated,
                           .max_tokens = s->options->n_tokens,
                           .ignore_end = s->options->accept > 0,
                           .no_prefix_reuse = true,
                           .sampling = vly_sampling_default(),
                           .draft_method = c->k ? c->method : VLY_DRAFT_DEFAULT,
                           .draft_max = c->k == VLY_SPEC_AUTO ? VLY_MAX_DRAFT : c->k,
                           .on_tokens = on_tokens,
                           .on_finish = on_finish,
                           .arg = w};
    vly_sequence *sequence;
    request.sampling.temperature = c->temperature;
    request.sampling.top_p = 1;
    request.sampling.seed = seed;
    *w = (written){.err = err};
    int rc = vly_engine_start(s->engine, &request, &sequence, NULL, NULL, err);
    if (rc) return rc;
    if (s->options->accept > 0 && c->k) vly_sequence_force_acceptance(sequence, s->options->accept);
    rc = vly_engine_run(s->engine, err);
    return rc ? rc : w->rc;
}

static void count(vly_spec_cell *cell, const vly_stats *st)
{
    cell->tokens += st->generated_tokens;
    cell->ms += st->generate_ms;
    cell->blocks += st->blocks;
    cell->drafted += st->drafted;
    cell->accepted += st->accepted;
    cell->lost[VLY_LOST_PICK] += st->lost_to_pick;
    cell->lost[VLY_LOST_UNMAPPED] += st->lost_unmapped;
    cell->lost[VLY_LOST_SPLIT] += st->lost_split;
    cell->lost[VLY_LOST_FRONT] += st->lost_to_front;
    cell->lost[VLY_LOST_END] += st->lost_to_end;
    for (int i = 0; i < VLY_MAX_DRAFT; i++) {
        cell->drafted_at[i] += st->drafted_by_position[i];
        cell->accepted_at[i] += st->accepted_by_position[i];
    }
}

/* The prompt of turn `turn`: the conversation so far, `said` [turn] being the answers. Without a
 * template, turns and answers with empty lines between. */
static int spell_turn(const vly_spec *s, const vly_prompt *p, size_t turn, const vly_text *said,
                      vly_text *out, vly_error *err)
{
    int rc = 0;
    out->len = 0;
    if (!s->templated) {
        for (size_t i = 0; rc == 0 && i <= turn; i++) {
            if (i && !(rc = vly_text_append(out, said[i - 1].data, said[i - 1].len)))
                rc = vly_text_append(out, "\n\n", 2);
            if (rc == 0) rc = vly_text_append(out, p->turns[i].data, p->turns[i].len);
        }
        return rc ? vly_fail(err, rc, "no memory for a prompt") : 0;
    }
    vly_chat_message *m = calloc(2 * turn + 1, sizeof *m);
    char *text;
    size_t len;
    if (!m) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a prompt");
    for (size_t i = 0; i <= turn; i++) {
        m[2 * i] = (vly_chat_message){"user", p->turns[i].data, p->turns[i].len};
        if (i) m[2 * i - 1] = (vly_chat_message){"assistant", said[i - 1].data, said[i - 1].len};
    }
    rc = vly_engine_apply_template(s->engine, m, 2 * turn + 1, true, &text, &len, err);
    free(m);
    if (rc) return rc;
    vly_text_free(out);
    *out = (vly_text){text, len, len + 1};
    return 0;
}

/* All turns of a prompt in one configuration, added to `cell` (NULL: not counted). `texts` (or
 * NULL) has the ids of all turns in a row: plain decoding writes them, what else there is is
 * compared. */
static int run_prompt(const vly_spec *s, size_t config, size_t prompt, uint64_t seed,
                      vly_spec_cell *cell, vly_ids *texts, vly_error *err)
{
    const vly_prompt *p = &s->prompts.items[prompt];
    vly_text *said = calloc(p->n_turns, sizeof *said), text = {0};
    vly_ids ids = {0};
    int rc = said ? 0 : vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a conversation");
    for (size_t turn = 0; rc == 0 && turn < p->n_turns; turn++) {
        written w = {0};
        rc = spell_turn(s, p, turn, said, &text, err);
        if (rc == 0) rc = write_text(s, &s->configs[config], seed, text.data, text.len, &w, err);
        bool full = rc == VLY_E_CONTEXT && turn > 0; /* the first turn was seen to fit */
        if (rc == 0 && cell) count(cell, &w.stats);
        if (rc == 0 && vly_ids_append(&ids, w.ids.data, w.ids.len))
            rc = vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a text");
        vly_ids_free(&w.ids);
        said[turn] = w.text;
        if (!full) continue;
        rc = 0;
        break;
    }
    bool plain = s->configs[config].base == config;
    if (rc == 0 && texts && !plain && s->options->accept <= 0 &&
        (texts->len != ids.len ||
         (ids.len && memcmp(texts->data, ids.data, ids.len * sizeof *ids.data) != 0)))
        rc =
            vly_fail(err, VLY_E_INVALID,
                     "prompt %zu, temperature %g, seed %llu: the text with %s, k = %u differs from "
                     "that of plain decoding",
                     prompt, (double)s->configs[config].temperature, (unsigned long long)seed,
                     vly_spec_method_name(&s->configs[config]), s->configs[config].k);
    if (rc == 0 && texts && plain && vly_ids_append(texts, ids.data, ids.len))
        rc = vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a text");
    for (size_t i = 0; said && i < p->n_turns; i++) vly_text_free(&said[i]);
    free(said);
    vly_ids_free(&ids);
    vly_text_free(&text);
    return rc;
}

int vly_spec_sample(const vly_spec *s, float temperature, size_t prompt, uint64_t seed,
                    vly_ids *ids, size_t *n_prompt, vly_error *err)
{
    const vly_spec_config plain = {.temperature = temperature};
    vly_text text = {0};
    written w = {0};
    uint32_t *prompt_ids = NULL;
    int rc = spell_turn(s, &s->prompts.items[prompt], 0, NULL, &text, err);
    if (rc == 0)
        rc = vly_engine_tokenize(s->engine, text.data, text.len, true, s->templated, &prompt_ids,
                                 n_prompt, err);
    if (rc == 0) rc = write_text(s, &plain, seed, text.data, text.len, &w, err);
    if (rc == 0 &&
        (vly_ids_append(ids, prompt_ids, *n_prompt) || vly_ids_append(ids, w.ids.data, w.ids.len)))
        rc = vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a text");
    free(prompt_ids);
    vly_ids_free(&w.ids);
    vly_text_free(&w.text);
    vly_text_free(&text);
    return rc;
}

/* ---- progress ---- */

typedef struct {
    size_t done, total; /* texts */
    vly_progress_line line;
} progress;

static void advance(progress *p)
{
    p->done++;
    if (!vly_progress_line_is_due(&p->line)) return;
    double part = (double)p->done / (double)p->total;
    double left_s = vly_progress_line_seconds(&p->line) * (1 - part) / part;
    char bar[VLY_PROGRESS_BAR_BYTES];
    vly_progress_bar(part, bar);
    vly_progress_line_show(&p->line, "%s %zu of %zu texts, %.0f s left", bar, p->done, p->total,
                           left_s);
}

/* ---- running ---- */

/* One prompt in the configurations [from, to), which share a temperature; the first is plain. */
static int run_all(const vly_spec *s, size_t from, size_t to, size_t prompt, progress *bar,
                   vly_error *err)
{
    uint32_t n_seeds = s->configs[from].temperature > 0 ? s->options->n_seeds : 1;
    int rc = 0;
    for (uint32_t seed = 1; rc == 0 && !vly_bench_interrupted() && seed <= n_seeds; seed++) {
        vly_ids texts = {0};
        for (size_t c = from; rc == 0 && !vly_bench_interrupted() && c < to; c++) {
            rc = run_prompt(s, c, prompt, seed, vly_spec_cell_of(s, c, prompt), &texts, err);
            advance(bar);
        }
        vly_ids_free(&texts);
    }
    return rc;
}

static size_t end_of_group(const vly_spec *s, size_t from)
{
    size_t to = from;
    while (to < s->n_configs && s->configs[to].base == from) to++;
    return to;
}

/* All configurations with one format of the caches; the engine is loaded for it. *n_done: the
 * prompts that were written in all of them. */
static int run_format(vly_spec *s, bool kv_f16, progress *bar, size_t *n_done, vly_error *err)
{
    int rc = 0;
    /* What compiles on first use is not measured. */
    for (size_t c = 0; rc == 0 && !vly_bench_interrupted() && c < s->n_configs; c++)
        if (s->configs[c].kv_f16 == kv_f16) rc = run_prompt(s, c, 0, 0, NULL, NULL, err);
    for (*n_done = 0; rc == 0 && !vly_bench_interrupted() && *n_done < s->prompts.n;
         *n_done += !vly_bench_interrupted())
        for (size_t c = 0; rc == 0 && c < s->n_configs; c = end_of_group(s, c))
            if (s->configs[c].kv_f16 == kv_f16)
                rc = run_all(s, c, end_of_group(s, c), *n_done, bar, err);
    return rc;
}

static size_t count_texts(const vly_spec *s)
{
    size_t n = 0;
    for (size_t c = 0; c < s->n_configs; c++)
        n += s->prompts.n * (s->configs[c].temperature > 0 ? s->options->n_seeds : 1);
    return n;
}

/* ---- setting up ---- */

static int load(vly_spec *s, bool kv_f16, vly_error *err)
{
    vly_text template = {0};
    const vly_bench_options *o = s->options;
    vly_engine_options options = {.target = s->target,
                                  .draft = s->draft,
                                  .device = o->device,
                                  .arch = s->options->arch,
                                  .n_ctx = o->n_ctx,
                                  .kv_f16 = kv_f16};
    int rc = o->chat_template ? vly_cli_read_template(o->chat_template, &template, err) : 0;
    if (o->chat_template) options.chat_template = template.data;
    vly_engine_destroy(s->engine);
    s->engine = NULL;
    if (rc == 0) rc = vly_engine_create(&options, &s->engine, err);
    vly_text_free(&template);
    if (rc) return rc;
    const vly_chat_message hello = {"user", "", 0};
    char *text;
    size_t len;
    s->templated =
        vly_engine_apply_template(s->engine, &hello, 1, true, &text, &len, &s->untemplated) == 0;
    if (s->templated) free(text);
    return 0;
}

/* Reads the set, leaves out what the context has no room for, and keeps as many as asked for. */
static int choose_prompts(vly_spec *s, vly_error *err)
{
    const char *file = s->templated ? "spec_bench.jsonl" : "stories.jsonl";
    char *folder = s->options->prompts ? NULL : vly_store_find_folder(PROMPTS_FOLDER, file);
    vly_text path = {0}, text = {0};
    if (!folder && !s->options->prompts)
        return vly_fail(err, VLY_E_NOT_FOUND, "%s is missing: name a set with --prompts", file);
    int rc = 0;
    if (folder && ((rc = vly_text_append(&path, folder, strlen(folder))) ||
                   (rc = vly_text_append(&path, "/", 1)) ||
                   (rc = vly_text_append(&path, file, strlen(file)))))
        vly_fail(err, rc, "no memory for a path");
    if (rc == 0) rc = vly_prompts_read(folder ? path.data : s->options->prompts, &s->prompts, err);
    size_t n = s->prompts.n;
    bool *keep = rc ? NULL : calloc(n, sizeof *keep);
    if (rc == 0 && !keep) rc = vly_fail(err, VLY_E_HOST_MEMORY, "no memory for prompts");
    for (size_t i = 0; rc == 0 && i < n; i++) {
        uint32_t *ids;
        size_t n_ids;
        if ((rc = spell_turn(s, &s->prompts.items[i], 0, NULL, &text, err)) ||
            (rc = vly_engine_tokenize(s->engine, text.data, text.len, true, s->templated, &ids,
                                      &n_ids, err)))
            break;
        free(ids);
        keep[i] =
            n_ids > 0 && n_ids + s->options->n_tokens <= vly_engine_get_info(s->engine)->n_ctx;
        s->n_left_out += !keep[i];
    }
    if (rc == 0) vly_prompts_select(&s->prompts, keep, s->options->limit);
    if (rc == 0 && s->prompts.n == 0)
        rc = vly_fail(err, VLY_E_CONTEXT,
                      "none of %zu prompt%s fits a context of %u with %u tokens of text", n,
                      vly_plural(n), vly_engine_get_info(s->engine)->n_ctx, s->options->n_tokens);
    free(keep);
    free(folder);
    vly_text_free(&path);
    vly_text_free(&text);
    return rc;
}

static int run(vly_spec *s, vly_error *err)
{
    const vly_ids *kvs = &s->options->kvs;
    int rc = load(s, kvs->data[0], err);
    if (rc == 0) rc = make_configs(s, err);
    if (rc == 0) rc = choose_prompts(s, err);
    if (rc) return rc;
    s->cells = calloc(s->n_configs * s->prompts.n, sizeof *s->cells);
    if (!s->cells) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for results");
    progress bar = {.total = count_texts(s), .line = vly_progress_line_begin()};
    size_t kv = 0, n_done = 0, n = s->prompts.n;
    for (; rc == 0 && !vly_bench_interrupted() && kv < kvs->len; kv++) {
        if (kv) rc = load(s, kvs->data[kv], err);
        if (rc == 0) rc = run_format(s, kvs->data[kv], &bar, &n_done, err);
    }
    vly_progress_line_clear(&bar.line);
    if (rc == 0 && vly_bench_interrupted()) {
        if (kv < kvs->len) n_done = 0; /* in another format it has nothing to be compared with */
        vly_prompts_truncate(&s->prompts, n_done);
        return vly_fail(err, VLY_E_CANCELLED, "interrupted: %zu of %zu prompt%s were measured",
                        n_done, n, vly_plural(n));
    }
    if (rc == 0 && s->options->compare_rules) rc = vly_spec_compare_rules(s, err);
    return rc;
}

static int measure(const vly_bench_options *o, vly_report *report, vly_error *err)
{
    vly_spec s = {.options = o, .target = o->target, .draft = o->draft};
    char *target = NULL, *draft = NULL;
    bool none = o->draft && strcmp(o->draft, "none") == 0;
    int rc = o->target ? 0 : vly_store_find_shipped(&target, &draft, err);
    if (!o->target) s.target = target;
    if (!o->target && !o->draft) s.draft = draft;
    if (none) s.draft = NULL;
    vly_bench_catch_interrupt();
    if (rc == 0) rc = run(&s, err);
    const bool cut = rc == VLY_E_CANCELLED && s.prompts.n > 0;
    if (rc == 0 || cut) vly_spec_report(&s, report);
    if (cut) vly_report_note(report, "%s", err->message);
    vly_error html_err;
    if ((rc == 0 || cut) && o->html && vly_spec_write_html(&s, report, o->html, &html_err))
        rc = vly_fail(err, html_err.code, "%s", html_err.message);
    vly_engine_destroy(s.engine);
    vly_prompts_deinit(&s.prompts);
    free(s.configs);
    free(s.cells);
    free(s.rules);
    free(target);
    free(draft);
    return rc;
}

int vly_bench_spec(int argc, char **argv)
{
    return vly_bench_main(VLY_BENCH_SPEC,
                          "speculation on real prompts, each written in every way, against\n"
                          "plain decoding",
                          measure, argc, argv);
}
