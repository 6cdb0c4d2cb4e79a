#include "cli/model_table.h"

#include "cli/cli.h"
#include "cli/json_fields.h"
#include "gguf/totals.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define WIDTH     100
#define MAX_NAME  36 /* columns; longer names have a line of their own */
#define MIN_NAME  12
#define N_COLUMNS 6

/* ---- reading ---- */

static vly_bytes string_of(const vly_gguf *gguf, const char *key)
{
    vly_bytes value;
    if (vly_gguf_string_or(gguf, key, "", &value, NULL)) return (vly_bytes){"", 0};
    return value;
}

static void copy(char *to, size_t n, vly_bytes from)
{
    snprintf(to, n, "%.*s", (int)(from.len < n ? from.len : n - 1), from.data);
}

static void find_inode(const vly_gguf *gguf, dev_t *device, ino_t *inode)
{
    struct stat st;
    if (stat(vly_gguf_path(gguf), &st) != 0) return;
    *device = st.st_dev;
    *inode = st.st_ino;
}

/* What a program finds out when it loads the file. */
static void find_problem(const vly_gguf *gguf, const vly_arch *arch, vly_error *problem)
{
    vly_model_config config;
    vly_tokenizer *tokenizer;
    if (vly_gguf_n_tensors(gguf) == 0) {
        vly_fail(problem, VLY_E_UNSUPPORTED, "it has a vocabulary only");
        return;
    }
    if (vly_model_check(gguf, arch, &config, problem) ||
        vly_tokenizer_create(gguf, &tokenizer, problem))
        return;
    vly_tokenizer_destroy(tokenizer);
}

static void read_file(const vly_gguf *gguf, vly_cli_model *out)
{
    const vly_gguf_totals totals = vly_gguf_count(gguf);
    const vly_gguf_entry *tokens = vly_gguf_find(gguf, "tokenizer.ggml.tokens");
    uint64_t most = 0;
    out->readable = true;
    out->n_weights = totals.all.n_weights;
    out->n_bytes = vly_gguf_file_bytes(gguf);
    out->n_vocab = tokens ? tokens->count : 0;
    copy(out->arch, sizeof out->arch, string_of(gguf, "general.architecture"));
    copy(out->tokenizer, sizeof out->tokenizer, string_of(gguf, "tokenizer.ggml.model"));
    for (int id = 0; id < VLY_N_FORMATS; id++) {
        if (totals.by_format[id].n_bytes <= most) continue;
        most = totals.by_format[id].n_bytes;
        out->format = vly_format_by_id((vly_format_id)id);
    }
    find_inode(gguf, &out->device, &out->inode);
    find_problem(gguf, out->described, &out->problem);
}

void vly_cli_model_read(const vly_store_entry *entry, const vly_arch *arch, vly_cli_model *out)
{
    vly_gguf *gguf;
    *out = (vly_cli_model){.entry = entry, .described = arch, .problem = entry->problem};
    if (!entry->path || vly_gguf_open(entry->path, &gguf, &out->problem)) return;
    read_file(gguf, out);
    vly_gguf_close(gguf);
}

/* ---- the target ---- */

int vly_cli_target_open(const char *name, const vly_arch *arch, vly_cli_target *out, vly_error *err)
{
    *out = (vly_cli_target){0};
    int rc = vly_store_open(name, &out->gguf, err);
    if (rc == 0) rc = vly_model_check(out->gguf, arch, &out->config, err);
    if (rc == 0) rc = vly_tokenizer_create(out->gguf, &out->tokenizer, err);
    if (rc) return rc;
    out->n_weights = vly_gguf_count(out->gguf).all.n_weights;
    find_inode(out->gguf, &out->device, &out->inode);
    out->name = strdup(name);
    return out->name ? 0 : vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the target's name");
}

void vly_cli_target_close(vly_cli_target *target)
{
    vly_tokenizer_destroy(target->tokenizer);
    vly_gguf_close(target->gguf);
    free(target->name);
}

int vly_cli_model_fit(vly_cli_model *model, const vly_cli_target *target, const char *text,
                      size_t len, vly_error *err)
{
    const vly_fit_model to = {target->gguf, &target->config, target->tokenizer};
    vly_model_config config;
    vly_gguf *gguf;
    vly_tokenizer *tokenizer;
    int rc = vly_gguf_open(model->entry->path, &gguf, err);
    if (rc) return rc;
    rc = vly_model_check(gguf, model->described, &config, err);
    if (rc == 0 && (rc = vly_tokenizer_create(gguf, &tokenizer, err)) == 0) {
        const vly_fit_model from = {gguf, &config, tokenizer};
        rc = vly_draft_fit_measure(&from, &to, text, len, &model->fit, err);
        vly_tokenizer_destroy(tokenizer);
    }
    vly_gguf_close(gguf);
    return rc;
}

/* ---- figures ---- */

static double share(uint64_t part, uint64_t whole)
{
    return whole ? (double)part / (double)whole : 0;
}

/* "7.24 B": three digits and a unit of a thousand, or of 1024 with `binary`. */
static void format_scaled(double value, bool binary, char *out, size_t n)
{
    static const char *const units[2][5] = {{"", " K", " M", " B", " T"},
                                            {" B", " KiB", " MiB", " GiB", " TiB"}};
    double step = binary ? 1024 : 1000;
    int unit = 0;
    for (; value >= step * 0.9995 && unit < 4; unit++) value /= step;
    int decimals = unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
    snprintf(out, n, "%.*f%s", decimals, value, units[binary][unit]);
}

/* ---- the table ---- */

#define CELL 32
typedef struct {
    char text[CELL];
} cell;

typedef struct {
    const char *heading;
    int width; /* negative: to the left */
} column;

static const column plain_columns[N_COLUMNS] = {{"ARCHITECTURE", -13}, {"PARAMETERS", 10},
                                                {"FORMAT", -8},        {"SIZE", 9},
                                                {"VOCABULARY", 10},    {"TOKENIZER", -9}};
static const column fit_columns[N_COLUMNS] = {{"PARAMETERS", 10},    {"SMALLER", 8},
                                              {"SHARED TOKENS", 17}, {"BYTES", 6},
                                              {"TOKENS", 6},         {"COST", 5}};

/* Columns of a terminal that UTF-8 takes, but for wide characters. */
static int width_of(const char *text)
{
    int n = 0;
    for (; *text; text++) n += (*text & 0xc0) != 0x80;
    return n;
}

static int name_width(const vly_cli_model *models, size_t n)
{
    int width = MIN_NAME;
    for (size_t i = 0; i < n; i++) {
        int w = width_of(models[i].entry->name);
        if (w > width && w <= MAX_NAME) width = w;
    }
    return width;
}

static void print_row(const char *name, int width, const column *columns, const cell *cells)
{
    char line[N_COLUMNS * (CELL + 2) + 1];
    size_t n = 0;
    for (int i = 0; i < N_COLUMNS; i++)
        n += (size_t)snprintf(line + n, sizeof line - n, "  %*s", columns[i].width, cells[i].text);
    while (n > 0 && line[n - 1] == ' ') line[--n] = '\0';
    int blank = width - width_of(name);
    if (blank < 0)
        printf("%s\n%*s%s\n", name, width, "", line);
    else
        printf("%s%*s%s\n", name, n ? blank : 0, "", line);
}

/* Prints "  word: text", broken between words to lines of the table's width; a word that is longer,
 * as paths may be, is broken too. */
static void print_note(const char *word, const char *text)
{
    enum { INDENT = 4 };
    char *clean = vly_cli_printable((vly_bytes){text, strlen(text)});
    int at = printf("  %s:", word);
    for (const char *p = clean ? clean : ""; *p;) {
        int n = (int)strcspn(p, " ");
        bool fits = at + 1 + n <= WIDTH;
        if (!fits && n <= WIDTH - INDENT) at = printf("\n%*s", INDENT - 1, "") - 1;
        int room = WIDTH - at - 1;
        if (n > room) n = room;
        while (n < (int)strlen(p) && n > 1 && (p[n] & 0xc0) == 0x80) n--;
        at += printf(" %.*s", n, p);
        p += n;
        if (*p && *p != ' ') at = printf("\n%*s", INDENT - 1, "") - 1;
        p += strspn(p, " ");
    }
    putchar('\n');
    free(clean);
}

/* The problem without the path that it begins with, which is known. */
static const char *problem_of(const vly_cli_model *m)
{
    const char *text = m->problem.message, *path = m->entry->path;
    size_t n = path ? strlen(path) : 0;
    return n && strncmp(text, path, n) == 0 && strncmp(text + n, ": ", 2) == 0 ? text + n + 2
                                                                               : text;
}

static void print_plain(const vly_cli_model *m, const char *name, int width)
{
    cell cells[N_COLUMNS] = {{{0}}};
    if (m->readable) {
        snprintf(cells[0].text, CELL, "%.13s", m->arch);
        format_scaled((double)m->n_weights, false, cells[1].text, CELL);
        snprintf(cells[2].text, CELL, "%s", m->format ? m->format->name : "");
        format_scaled((double)m->n_bytes, true, cells[3].text, CELL);
        snprintf(cells[4].text, CELL, "%" PRIu64, m->n_vocab);
        snprintf(cells[5].text, CELL, "%.9s", m->tokenizer);
        print_row(name, width, plain_columns, cells);
    } else {
        puts(name);
    }
    if (m->problem.code) print_note("does not run", problem_of(m));
}

static const char *const verdicts[] = {"good", "fair", "poor", "no"};

static void print_fit(const vly_cli_model *m, const char *name, int width,
                      const vly_cli_target *target)
{
    cell cells[N_COLUMNS] = {{{0}}};
    if (m->has_fit) {
        const vly_draft_fit *f = &m->fit;
        format_scaled((double)m->n_weights, false, cells[0].text, CELL);
        snprintf(cells[1].text, CELL, "%.1f x", share(target->n_weights, m->n_weights));
        snprintf(cells[2].text, CELL, "%" PRIu32 " of %" PRIu32, f->n_mapped, f->n_draft);
        snprintf(cells[3].text, CELL, "%.1f%%", 100 * share(f->mapped_bytes, f->text_bytes));
        snprintf(cells[4].text, CELL, "%.1f%%", 100 * share(f->mapped_tokens, f->text_tokens));
        snprintf(cells[5].text, CELL, "%.3f", share(f->draft_step_bytes, f->target_step_bytes));
        print_row(name, width, fit_columns, cells);
    } else {
        puts(name);
    }
    char why[sizeof m->why + sizeof m->problem.message];
    snprintf(why, sizeof why, "%s%s%s", m->why, m->problem.code ? ": " : "",
             m->problem.code ? problem_of(m) : "");
    print_note(verdicts[m->verdict], why);
}

void vly_cli_models_print(const vly_cli_model *models, size_t n, const vly_cli_target *target)
{
    const column *columns = target ? fit_columns : plain_columns;
    cell headings[N_COLUMNS] = {{{0}}};
    int width = name_width(models, n);
    if (n == 0) {
        puts("No models were found in $VOLLEY_MODELS, beside the program or in Ollama's store.");
        return;
    }
    if (target) {
        char size[CELL];
        format_scaled((double)target->n_weights, false, size, sizeof size);
        printf("Drafts for %s (%s parameters, %" PRIu32 " tokens):\n", target->name, size,
               vly_tokenizer_n_vocab(target->tokenizer));
    }
    for (int i = 0; i < N_COLUMNS; i++) snprintf(headings[i].text, CELL, "%s", columns[i].heading);
    print_row(target ? "DRAFT" : "NAME", width, columns, headings);
    const char *source = NULL;
    for (size_t i = 0; i < n; i++) {
        const vly_cli_model *m = &models[i];
        char *name = vly_cli_printable((vly_bytes){m->entry->name, strlen(m->entry->name)});
        if (!target && source != m->entry->source) printf("%s:\n", m->entry->source);
        source = m->entry->source;
        if (target)
            print_fit(m, name ? name : "", width, target);
        else
            print_plain(m, name ? name : "", width);
        free(name);
    }
}

/* ---- JSON ---- */

static void add_fit(cJSON *json, const vly_cli_model *m, const vly_cli_target *target)
{
    const vly_draft_fit *f = &m->fit;
    cJSON *draft = cJSON_AddObjectToObject(json, "draft");
    cJSON_AddStringToObject(draft, "verdict", verdicts[m->verdict]);
    vly_cli_json_add_name(draft, "why", m->why);
    if (!m->has_fit) return;
    cJSON_AddBoolToObject(draft, "same_vocabulary", f->identity);
    vly_cli_json_add_count(draft, "tokens", f->n_draft);
    vly_cli_json_add_count(draft, "shared_tokens", f->n_mapped);
    vly_cli_json_add_real(draft, "shared_share", share(f->n_mapped, f->n_draft), 6);
    vly_cli_json_add_real(draft, "text_bytes_share", share(f->mapped_bytes, f->text_bytes), 6);
    vly_cli_json_add_real(draft, "text_tokens_share", share(f->mapped_tokens, f->text_tokens), 6);
    vly_cli_json_add_real(draft, "size_ratio", share(target->n_weights, m->n_weights), 6);
    vly_cli_json_add_count(draft, "step_bytes", f->draft_step_bytes);
    vly_cli_json_add_real(draft, "cost", share(f->draft_step_bytes, f->target_step_bytes), 6);
}

static cJSON *model_to_json(const vly_cli_model *m, const vly_cli_target *target)
{
    cJSON *json = cJSON_CreateObject();
    vly_cli_json_add_name(json, "name", m->entry->name);
    cJSON_AddStringToObject(json, "source", m->entry->source);
    vly_cli_json_add_name(json, "path", m->entry->path);
    cJSON_AddBoolToObject(json, "runs", m->problem.code == 0);
    vly_cli_json_add_name(json, "problem", m->problem.code ? m->problem.message : NULL);
    if (m->readable) {
        vly_cli_json_add_name(json, "architecture", m->arch);
        vly_cli_json_add_count(json, "parameters", m->n_weights);
        vly_cli_json_add_name(json, "format", m->format ? m->format->name : NULL);
        vly_cli_json_add_count(json, "bytes", m->n_bytes);
        vly_cli_json_add_count(json, "vocabulary", m->n_vocab);
        vly_cli_json_add_name(json, "tokenizer", m->tokenizer);
    }
    if (target) add_fit(json, m, target);
    return json;
}

int vly_cli_models_print_json(const vly_cli_model *models, size_t n, const vly_cli_target *target,
                              vly_error *err)
{
    cJSON *json = cJSON_CreateObject();
    if (target) {
        cJSON *to = cJSON_AddObjectToObject(json, "target");
        vly_cli_json_add_name(to, "name", target->name);
        vly_cli_json_add_name(to, "path", vly_gguf_path(target->gguf));
        vly_cli_json_add_count(to, "parameters", target->n_weights);
        vly_cli_json_add_count(to, "vocabulary", vly_tokenizer_n_vocab(target->tokenizer));
    }
    cJSON *array = cJSON_AddArrayToObject(json, "models");
    for (size_t i = 0; i < n; i++) cJSON_AddItemToArray(array, model_to_json(&models[i], target));
    return vly_cli_json_print(json, err);
}
