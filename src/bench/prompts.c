#include "bench/prompts.h"

#include "cli/cli.h"
#include "text/json.h"

#include <stdlib.h>
#include <string.h>

static void free_prompt(vly_prompt *p)
{
    for (size_t i = 0; i < p->n_turns; i++) vly_text_free(&p->turns[i]);
    free(p->turns);
    free(p->category);
}

void vly_prompts_truncate(vly_prompts *prompts, size_t n)
{
    while (prompts->n > n) free_prompt(&prompts->items[--prompts->n]);
}

void vly_prompts_deinit(vly_prompts *prompts)
{
    vly_prompts_truncate(prompts, 0);
    free(prompts->items);
    *prompts = (vly_prompts){0};
}

/* Fills `p` from one line's object; it is to be freed in any case. */
static int take_object(const cJSON *json, vly_prompt *p, vly_error *err)
{
    const cJSON *category = cJSON_GetObjectItemCaseSensitive(json, "category"), *turn;
    const cJSON *turns = cJSON_GetObjectItemCaseSensitive(json, "turns");
    int n = cJSON_IsArray(turns) ? cJSON_GetArraySize(turns) : 0;
    if (n < 1 || (category && !cJSON_IsString(category)))
        return vly_fail(err, VLY_E_FORMAT,
                        "expected {\"category\": \"...\", \"turns\": [\"...\", ...]}");
    if (category && strchr(category->valuestring, 0xFF)) /* as vly_json_parse has it */
        return vly_fail(err, VLY_E_FORMAT, "category: expected text without U+0000");
    p->category = strdup(category ? category->valuestring : "");
    p->turns = calloc((size_t)n, sizeof *p->turns);
    if (!p->category || !p->turns) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory");
    cJSON_ArrayForEach(turn, turns)
    {
        if (!cJSON_IsString(turn))
            return vly_fail(err, VLY_E_FORMAT, "turn %zu: expected a string", p->n_turns);
        vly_text *text = &p->turns[p->n_turns++];
        if (vly_text_append(text, "", 0) || vly_json_string(turn, text))
            return vly_fail(err, VLY_E_HOST_MEMORY, "no memory");
    }
    return 0;
}

static int add_line(vly_prompts *prompts, const char *line, size_t len, vly_error *err)
{
    cJSON *json;
    if (prompts->n == prompts->cap) {
        size_t cap = prompts->cap ? 2 * prompts->cap : 64;
        vly_prompt *items = realloc(prompts->items, cap * sizeof *items);
        if (!items) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory");
        prompts->items = items;
        prompts->cap = cap;
    }
    int rc = vly_json_parse(line, len, &json, err);
    if (rc) return rc;
    vly_prompt *p = &prompts->items[prompts->n++];
    *p = (vly_prompt){0};
    rc = take_object(json, p, err);
    cJSON_Delete(json);
    return rc;
}

static bool is_blank(const char *line, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!strchr(" \t\r", line[i]) || !line[i]) return false;
    return true;
}

int vly_prompts_read(const char *path, vly_prompts *out, vly_error *err)
{
    vly_text text = {0};
    int rc = vly_cli_read_text(path, &text, err);
    size_t number = 1;
    for (size_t at = 0; rc == 0 && at < text.len; number++) {
        const char *line = text.data + at, *end = memchr(line, '\n', text.len - at);
        size_t len = end ? (size_t)(end - line) : text.len - at;
        if (!is_blank(line, len) && (rc = add_line(out, line, len, err)))
            vly_fail_within(err, "%s, line %zu", path, number);
        at += len + 1;
    }
    vly_text_free(&text);
    if (rc == 0 && out->n == 0)
        rc = vly_fail(err, VLY_E_FORMAT, "%s: expected prompts, found none", path);
    return rc;
}

void vly_prompts_select(vly_prompts *prompts, const bool *keep, size_t limit)
{
    size_t n_kept = 0, seen = 0, n = 0;
    for (size_t i = 0; i < prompts->n; i++) n_kept += keep[i];
    size_t wanted = limit && limit < n_kept ? limit : n_kept;
    for (size_t i = 0; i < prompts->n; i++) {
        /* Of those kept, the n-th one wanted is the one at n * n_kept / wanted. */
        bool take = keep[i] && n < wanted && seen == n * n_kept / wanted;
        seen += keep[i];
        if (take)
            prompts->items[n++] = prompts->items[i];
        else
            free_prompt(&prompts->items[i]);
    }
    prompts->n = n;
}
