#include "serve/openai_request.h"

#include "serve/fields.h"
#include "text/json.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_EXACT 9007199254740991.0 /* 2^53 - 1: whole numbers that a JSON reader keeps */
#define MAX_COUNT 4294967294.0
#define MAX_BIAS  1024

static int fail_memory(vly_api_error *err)
{
    return vly_api_fail(err, 503, "out_of_memory", NULL, "no memory for the request");
}

/* ---- fields with readers of their own ---- */

/* OpenAI's top_p of 0 is the likeliest token alone, as the smallest number above 0 is here. */
static int read_top_p(const vly_field *field, const cJSON *item, void *target, vly_api_error *err)
{
    if (vly_field_real(field, item, target, err)) return -1;
    float *top_p = &((vly_openai_request *)target)->engine.sampling.top_p;
    if (*top_p < FLT_MIN) *top_p = FLT_MIN;
    return 0;
}

/* -1 is as if absent: of top_k off, of repeat_last_n all. */
static int read_count_or_all(const vly_field *field, const cJSON *item, void *target,
                             vly_api_error *err)
{
    if (cJSON_IsNumber(item) && item->valuedouble == -1) return 0;
    return vly_field_count(field, item, target, err);
}

/* A request asks for one choice, which is all that there is. */
static int read_n(const vly_field *field, const cJSON *item, void *target, vly_api_error *err)
{
    (void)target;
    return vly_json_is_whole(item, 1, 1) ? 0 : vly_field_fail(field->name, "1", item, err);
}

static int read_seed(const vly_field *field, const cJSON *item, void *target, vly_api_error *err)
{
    vly_openai_request *q = target;
    if (!vly_json_is_whole(item, field->min, field->max))
        return vly_field_fail(field->name, "a whole number, -9007199254740991 to 9007199254740991",
                              item, err);
    q->has_seed = true;
    q->engine.sampling.seed = (uint64_t)(int64_t)item->valuedouble;
    return 0;
}

/* There is one model, whatever it is called. */
static int read_model(const vly_field *field, const cJSON *item, void *target, vly_api_error *err)
{
    (void)target;
    return cJSON_IsString(item) ? 0 : vly_field_fail(field->name, "a string", item, err);
}

static int read_stream_options(const vly_field *field, const cJSON *item, void *target,
                               vly_api_error *err)
{
    static const vly_field usage = {.name = "stream_options.include_usage",
                                    .offset = offsetof(vly_openai_request, include_usage)};
    if (!cJSON_IsObject(item)) return vly_field_fail(field->name, "an object", item, err);
    if (!((vly_openai_request *)target)->stream)
        return vly_api_fail(err, 400, NULL, field->name,
                            "'stream_options': only to be given where 'stream' is true");
    const cJSON *asked = cJSON_GetObjectItemCaseSensitive(item, "include_usage");
    return asked && !cJSON_IsNull(asked) ? vly_field_bool(&usage, asked, target, err) : 0;
}

static int add_stop(const vly_field *field, const cJSON *item, vly_openai_request *q,
                    vly_api_error *err)
{
    size_t from = q->stop_strings.len;
    if (!cJSON_IsString(item) || item->valuestring[0] == '\0')
        return vly_field_fail(field->name, "strings that are not empty", item, err);
    if (vly_json_string(item, &q->stop_strings)) return fail_memory(err);
    if (memchr(q->stop_strings.data + from, '\0', q->stop_strings.len - from))
        return vly_field_fail(field->name, "strings without U+0000", item, err);
    q->engine.n_stop++;
    return vly_text_append(&q->stop_strings, "", 1) ? fail_memory(err) : 0;
}

static int read_stop(const vly_field *field, const cJSON *item, void *target, vly_api_error *err)
{
    vly_openai_request *q = target;
    char expected[64];
    snprintf(expected, sizeof expected, "a string, or an array of at most %d", VLY_MAX_STOP);
    if (!cJSON_IsString(item) && !(cJSON_IsArray(item) && cJSON_GetArraySize(item) <= VLY_MAX_STOP))
        return vly_field_fail(field->name, expected, item, err);
    int rc = 0;
    const cJSON *one;
    if (cJSON_IsString(item))
        rc = add_stop(field, item, q, err);
    else
        cJSON_ArrayForEach(one, item) if (!rc) rc = add_stop(field, one, q, err);
    if (rc) return rc;
    size_t at = 0;
    for (uint32_t i = 0; i < q->engine.n_stop; i++) {
        q->stop[i] = q->stop_strings.data + at;
        at += strlen(q->stop[i]) + 1;
    }
    q->engine.stop = q->stop;
    return 0;
}

static int read_logit_bias(const vly_field *field, const cJSON *item, void *target,
                           vly_api_error *err)
{
    static const char expected[] = "an object of at most 1024 token ids and numbers, -100 to 100";
    vly_openai_request *q = target;
    int n = cJSON_IsObject(item) ? cJSON_GetArraySize(item) : -1;
    if (n < 0 || n > MAX_BIAS) return vly_field_fail(field->name, expected, item, err);
    q->bias = calloc(n ? (size_t)n : 1, sizeof *q->bias);
    if (!q->bias) return fail_memory(err);
    const cJSON *one;
    cJSON_ArrayForEach(one, item)
    {
        char *end;
        unsigned long id = strtoul(one->string, &end, 10);
        bool is_id = one->string[0] >= '0' && one->string[0] <= '9' && !*end && id < UINT32_MAX;
        if (!is_id)
            return vly_api_fail(err, 400, NULL, field->name,
                                "'%s': expected %s, got the key \"%.40s\"", field->name, expected,
                                one->string);
        if (!cJSON_IsNumber(one) || !(fabs(one->valuedouble) <= field->max))
            return vly_field_fail(field->name, expected, one, err);
        q->bias[q->engine.sampling.n_bias++] =
            (vly_logit_bias){.id = (uint32_t)id, .bias = (float)one->valuedouble};
    }
    q->engine.sampling.bias = q->bias;
    return 0;
}

static int read_method(const vly_field *field, const cJSON *item, void *target, vly_api_error *err)
{
    char expected[256] = "one of";
    for (int i = 0; i < VLY_N_DRAFT_METHODS; i++) {
        const char *name = vly_draft_method_name(i);
        if (!name) continue;
        if (cJSON_IsString(item) && strcmp(name, item->valuestring) == 0) {
            ((vly_openai_request *)target)->engine.draft_method = i;
            return 0;
        }
        size_t len = strlen(expected);
        snprintf(expected + len, sizeof expected - len, " %s", name);
    }
    return vly_field_fail(field->name, expected, item, err);
}

static int read_priority(const vly_field *field, const cJSON *item, void *target,
                         vly_api_error *err)
{
    static const char *const names[] = {"low", "normal", "high"};
    for (int i = 0; i < 3; i++) {
        if (!cJSON_IsString(item) || strcmp(names[i], item->valuestring) != 0) continue;
        ((vly_openai_request *)target)->engine.priority = (vly_priority)(i - 1);
        return 0;
    }
    return vly_field_fail(field->name, "low, normal or high", item, err);
}

/* Of a completion: how many of the likeliest tokens to tell of, besides each token itself. */
static int read_logprobs(const vly_field *field, const cJSON *item, void *target,
                         vly_api_error *err)
{
    ((vly_openai_request *)target)->engine.logprobs = true;
    return vly_field_count(field, item, target, err);
}

static int read_top_logprobs(const vly_field *field, const cJSON *item, void *target,
                             vly_api_error *err)
{
    if (vly_field_count(field, item, target, err)) return -1;
    const vly_request *r = &((vly_openai_request *)target)->engine;
    if (r->logprobs || r->n_top_logprobs == 0) return 0;
    return vly_api_fail(err, 400, NULL, field->name,
                        "'top_logprobs': only to be given where 'logprobs' is true");
}

static int read_cache_prompt(const vly_field *field, const cJSON *item, void *target,
                             vly_api_error *err)
{
    if (vly_field_bool(field, item, target, err)) return -1;
    bool *no_reuse = &((vly_openai_request *)target)->engine.no_prefix_reuse;
    *no_reuse = !*no_reuse;
    return 0;
}

/* ---- prompts ---- */

int vly_openai_ids_read(const char *name, const cJSON *item, uint32_t n_vocab, vly_ids *out,
                        vly_api_error *err)
{
    const cJSON *one;
    if (!cJSON_IsArray(item)) return vly_field_fail(name, "an array of token ids", item, err);
    cJSON_ArrayForEach(one, item)
    {
        if (!vly_json_is_whole(one, 0, (double)n_vocab - 1)) {
            char expected[64];
            snprintf(expected, sizeof expected, "token ids below %u", n_vocab);
            return vly_field_fail(name, expected, one, err);
        }
        if (vly_ids_push(out, (uint32_t)one->valuedouble)) return fail_memory(err);
    }
    return 0;
}

/* A text, token ids, or an array with one of these. */
static int read_prompt(const cJSON *object, uint32_t n_vocab, vly_openai_request *q,
                       vly_api_error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, "prompt");
    if (cJSON_IsArray(item) && cJSON_GetArraySize(item) == 1 && !cJSON_IsNumber(item->child))
        item = item->child;
    if (cJSON_IsString(item)) {
        if (vly_text_append(&q->prompt, "", 0) || vly_json_string(item, &q->prompt))
            return fail_memory(err);
        q->engine.prompt = q->prompt.data;
        q->engine.prompt_len = q->prompt.len;
        return 0;
    }
    if (!cJSON_IsArray(item) || !cJSON_IsNumber(item->child))
        return vly_field_fail("prompt",
                              "a string, an array of token ids, or an array with one of "
                              "these",
                              item, err);
    if (vly_openai_ids_read("prompt", item, n_vocab, &q->prompt_ids, err)) return -1;
    q->engine.prompt_tokens = q->prompt_ids.data;
    q->engine.n_prompt_tokens = q->prompt_ids.len;
    return 0;
}

static int fail_message(int index, const char *field, const char *expected, const cJSON *item,
                        vly_api_error *err)
{
    char name[64];
    snprintf(name, sizeof name, "messages[%d]%s", index, field);
    return vly_field_fail(name, expected, item, err);
}

/* Did the assistant call tools, which are ignored here? Then it need not have said anything. */
static bool calls_tools(const cJSON *message, const char *role)
{
    return strcmp(role, "assistant") == 0 &&
           (cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(message, "tool_calls")) ||
            cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(message, "function_call")));
}

/* Appends a message's text: a string, or an array of parts that are text. */
static int read_content(int index, const cJSON *item, vly_text *out, vly_api_error *err)
{
    static const char expected[] = "a string, or an array of {\"type\":\"text\",\"text\":...}";
    if (cJSON_IsString(item)) return vly_json_string(item, out) ? fail_memory(err) : 0;
    if (!cJSON_IsArray(item)) return fail_message(index, ".content", expected, item, err);
    const cJSON *part;
    cJSON_ArrayForEach(part, item)
    {
        const cJSON *type = cJSON_GetObjectItemCaseSensitive(part, "type");
        const cJSON *text = cJSON_GetObjectItemCaseSensitive(part, "text");
        bool is_text = cJSON_IsString(type) && strcmp(type->valuestring, "text") == 0;
        if (!is_text && cJSON_IsString(type)) /* an image, say */
            return fail_message(index, ".content", "parts of the type \"text\"", type, err);
        if (!is_text || !cJSON_IsString(text))
            return fail_message(index, ".content", expected, part, err);
        if (vly_json_string(text, out)) return fail_memory(err);
    }
    return 0;
}

/* One message; until all are read, its pointers are offsets into the strings. */
static int read_message(int index, const cJSON *item, vly_openai_messages *out, size_t at[2],
                        size_t *content_len, vly_api_error *err)
{
    const cJSON *role = cJSON_GetObjectItemCaseSensitive(item, "role");
    if (!cJSON_IsObject(item)) return fail_message(index, "", "an object", item, err);
    if (!cJSON_IsString(role) || role->valuestring[0] == '\0')
        return fail_message(index, ".role", "a string", role, err);
    const char *name = strcmp(role->valuestring, "developer") == 0 ? "system" : role->valuestring;
    at[0] = out->strings.len;
    if (vly_text_append(&out->strings, name, strlen(name) + 1)) return fail_memory(err);
    at[1] = out->strings.len;
    const cJSON *content = cJSON_GetObjectItemCaseSensitive(item, "content");
    bool silent = (!content || cJSON_IsNull(content)) && calls_tools(item, name);
    if (!silent && read_content(index, content, &out->strings, err)) return -1;
    *content_len = out->strings.len - at[1];
    return vly_text_append(&out->strings, "", 1) ? fail_memory(err) : 0;
}

int vly_openai_messages_read(const cJSON *object, vly_openai_messages *out, vly_api_error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, "messages"), *one;
    int n = cJSON_IsArray(item) ? cJSON_GetArraySize(item) : 0;
    if (n == 0) return vly_field_fail("messages", "an array of one message or more", item, err);
    size_t(*at)[2] = calloc((size_t)n, sizeof *at);
    out->list = calloc((size_t)n, sizeof *out->list);
    int rc = at && out->list ? 0 : fail_memory(err);
    cJSON_ArrayForEach(one, item)
    {
        if (rc) break;
        rc = read_message((int)out->n, one, out, at[out->n], &out->list[out->n].content_len, err);
        out->n += rc == 0;
    }
    for (size_t i = 0; !rc && i < out->n; i++) {
        out->list[i].role = out->strings.data + at[i][0];
        out->list[i].content = out->strings.data + at[i][1];
    }
    free(at);
    return rc;
}

void vly_openai_messages_deinit(vly_openai_messages *messages)
{
    free(messages->list);
    vly_text_free(&messages->strings);
    *messages = (vly_openai_messages){0};
}

/* ---- the table ---- */

#define AT(field) offsetof(vly_openai_request, field)
#define TEXT      VLY_OPENAI_COMPLETION
#define CHAT      VLY_OPENAI_CHAT
#define BOTH      (TEXT | CHAT)

/* In the order in which they are read: some look at those before them. */
static const vly_field fields[] = {
    {"model", BOTH, read_model, 0, 0, 0},
    {"stream", BOTH, vly_field_bool, AT(stream), 0, 0},
    {"stream_options", BOTH, read_stream_options, 0, 0, 0},
    {"n", BOTH, read_n, 0, 1, 1},
    {"max_tokens", TEXT, vly_field_count, AT(engine.max_tokens), 0, MAX_COUNT},
    {"max_tokens", CHAT, vly_field_count, AT(engine.max_tokens), 1, MAX_COUNT},
    {"max_completion_tokens", TEXT, vly_field_count, AT(engine.max_tokens), 0, MAX_COUNT},
    {"max_completion_tokens", CHAT, vly_field_count, AT(engine.max_tokens), 1, MAX_COUNT},
    {"temperature", BOTH, vly_field_real, AT(engine.sampling.temperature), 0, 2},
    {"top_p", BOTH, read_top_p, AT(engine.sampling.top_p), 0, 1},
    {"top_k", BOTH, read_count_or_all, AT(engine.sampling.top_k), 0, MAX_COUNT},
    {"min_p", BOTH, vly_field_real, AT(engine.sampling.min_p), 0, 1},
    {"seed", BOTH, read_seed, AT(engine.sampling.seed), -MAX_EXACT, MAX_EXACT},
    {"stop", BOTH, read_stop, 0, 0, 0},
    {"presence_penalty", BOTH, vly_field_real, AT(engine.sampling.presence_penalty), -2, 2},
    {"frequency_penalty", BOTH, vly_field_real, AT(engine.sampling.frequency_penalty), -2, 2},
    {"repeat_penalty", BOTH, vly_field_real, AT(engine.sampling.repeat_penalty), 0.01, 100},
    {"repeat_last_n", BOTH, read_count_or_all, AT(engine.sampling.penalty_last_n), 0, MAX_COUNT},
    {"logit_bias", BOTH, read_logit_bias, 0, -100, 100},
    {"logprobs", CHAT, vly_field_bool, AT(engine.logprobs), 0, 0},
    {"top_logprobs", CHAT, read_top_logprobs, AT(engine.n_top_logprobs), 0, VLY_MAX_TOP_LOGPROBS},
    {"logprobs", TEXT, read_logprobs, AT(engine.n_top_logprobs), 0, VLY_MAX_TOP_LOGPROBS},
    {"ignore_eos", BOTH, vly_field_bool, AT(engine.ignore_end), 0, 0},
    {"draft_max", BOTH, vly_field_count, AT(engine.draft_max), 0, VLY_MAX_DRAFT},
    {"draft_method", BOTH, read_method, 0, 0, 0},
    {"priority", BOTH, read_priority, 0, 0, 0},
    {"cache_prompt", BOTH, read_cache_prompt, AT(engine.no_prefix_reuse), 0, 0},
};

_Static_assert(sizeof fields / sizeof *fields <= VLY_MAX_FIELDS, "the table grew");

/* ---- bodies ---- */

int vly_openai_parse_object(const char *body, size_t len, cJSON **out, vly_api_error *err)
{
    vly_error why;
    int rc = vly_json_parse(body ? body : "", len, out, &why);
    if (rc == VLY_E_HOST_MEMORY) return fail_memory(err);
    if (rc) return vly_api_fail(err, 400, NULL, NULL, "the body: %s", why.message);
    if (cJSON_IsObject(*out)) return 0;
    cJSON_Delete(*out);
    *out = NULL;
    return vly_api_fail(err, 400, NULL, NULL, "the body: expected a JSON object");
}

/* What no field shows alone. */
static int check(const vly_openai_request *q, const vly_openai_defaults *defaults,
                 vly_api_error *err)
{
    const vly_sampling *s = &q->engine.sampling;
    for (uint32_t i = 0; i < s->n_bias; i++)
        if (s->bias[i].id >= defaults->n_vocab)
            return vly_api_fail(err, 400, NULL, "logit_bias",
                                "'logit_bias': expected token ids below %u, got %u",
                                defaults->n_vocab, s->bias[i].id);
    if (vly_draft_method_model_use(q->engine.draft_method) == VLY_MODEL_NEEDED &&
        !defaults->has_draft)
        return vly_api_fail(err, 400, NULL, "draft_method",
                            "'draft_method': expected one that needs no draft model, since this "
                            "server has none, got %s",
                            vly_draft_method_name(q->engine.draft_method));
    return 0;
}

int vly_openai_parse(vly_openai_kind kind, const char *body, size_t len,
                     const vly_openai_defaults *defaults, vly_openai_request *out,
                     vly_api_error *err)
{
    *out = (vly_openai_request){.kind = kind};
    out->engine = (vly_request){.max_tokens = UINT32_MAX,
                                .draft_method = defaults->draft_method,
                                .draft_max = defaults->draft_max,
                                .parse_special = kind == VLY_OPENAI_CHAT};
    out->engine.sampling = (vly_sampling){
        .temperature = 1, .top_p = 1, .repeat_penalty = 1, .penalty_last_n = UINT32_MAX};
    cJSON *object;
    if (vly_openai_parse_object(body, len, &object, err)) return -1;
    int rc =
        vly_fields_read(fields, sizeof fields / sizeof *fields, (unsigned)kind, object, out, err);
    if (out->engine.draft_max == VLY_DRAFT_MAX_DEFAULT)
        out->engine.draft_max = vly_draft_method_default_max(out->engine.draft_method);
    if (out->engine.n_stop == 0) {
        out->engine.stop = defaults->stop;
        out->engine.n_stop = defaults->n_stop;
    }
    if (!rc) rc = check(out, defaults, err);
    if (!rc)
        rc = kind == VLY_OPENAI_CHAT ? vly_openai_messages_read(object, &out->messages, err)
                                     : read_prompt(object, defaults->n_vocab, out, err);
    cJSON_Delete(object);
    return rc;
}

void vly_openai_request_deinit(vly_openai_request *request)
{
    vly_openai_messages_deinit(&request->messages);
    vly_text_free(&request->prompt);
    vly_ids_free(&request->prompt_ids);
    vly_text_free(&request->stop_strings);
    free(request->bias);
    request->bias = NULL;
}
