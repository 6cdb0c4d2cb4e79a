/* What a load's prompts are made of: what the server tells of itself, and a text or random tokens.
 */
#include "bench/serve.h"

#include "cli/cli.h"
#include "text/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_S      60
#define MAX_TEXT_BYTES (1u << 20) /* that are tokenized; servers limit what they take at a time */

static int fetch_json(vly_load_source *s, const char *path, vly_bytes body, cJSON **out,
                      vly_error *err)
{
    vly_text text = {0};
    int rc = vly_http_client_fetch(s->client, path, body, TIMEOUT_S, &text, err);
    if (rc == 0 && (rc = vly_json_parse(text.data ? text.data : "", text.len, out, err)))
        vly_fail_within(err, "%s", path);
    vly_text_free(&text);
    return rc;
}

static void copy_string(const cJSON *object, const char *name, char *out, size_t n)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    if (text) snprintf(out, n, "%s", text);
}

/* /v1/models is of OpenAI's API, with llama.cpp's "meta"; /props is Volley's and llama.cpp's, and
 * need not be there. */
static int ask_models(vly_load_source *s, vly_error *err)
{
    vly_error unimportant;
    cJSON *json;
    int rc = fetch_json(s, "/v1/models", (vly_bytes){NULL, 0}, &json, err);
    if (rc) return rc;
    const cJSON *model = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(json, "data"), 0);
    const cJSON *meta = cJSON_GetObjectItemCaseSensitive(model, "meta");
    const cJSON *n_vocab = cJSON_GetObjectItemCaseSensitive(meta, "n_vocab");
    if (cJSON_IsNumber(n_vocab) && n_vocab->valuedouble >= 8 && n_vocab->valuedouble < 1u << 24)
        s->n_vocab = (uint32_t)n_vocab->valuedouble;
    copy_string(model, "id", s->model, sizeof s->model);
    cJSON_Delete(json);
    if (fetch_json(s, "/props", (vly_bytes){NULL, 0}, &json, &unimportant)) return 0;
    copy_string(json, "device", s->device, sizeof s->device);
    copy_string(json, "draft", s->draft, sizeof s->draft);
    cJSON_Delete(json);
    return 0;
}

/* ---- the text ---- */

static int take_ids(const cJSON *json, vly_ids *out, vly_error *err)
{
    const cJSON *tokens = cJSON_GetObjectItemCaseSensitive(json, "tokens"), *one;
    cJSON_ArrayForEach(one, tokens)
    {
        if (!cJSON_IsNumber(one) || !(one->valuedouble >= 0 && one->valuedouble < UINT32_MAX))
            return vly_fail(err, VLY_E_IO, "/tokenize: expected {\"tokens\": [ID, ...]}");
        if (vly_ids_push(out, (uint32_t)one->valuedouble))
            return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the text's tokens");
    }
    return out->len ? 0 : vly_fail(err, VLY_E_IO, "/tokenize: expected tokens, got none");
}

static int tokenize_text(vly_load_source *s, const char *path, vly_error *err)
{
    vly_text text = {0}, body = {0};
    cJSON *json = NULL;
    int rc = vly_cli_read_text(path, &text, err);
    if (rc == 0) {
        vly_bytes bytes = {text.data, text.len < MAX_TEXT_BYTES ? text.len : MAX_TEXT_BYTES};
        if (vly_text_append(&body, "{\"content\":", 11) || vly_json_quote(bytes, &body) ||
            vly_text_append(&body, "}", 1))
            rc = vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the text");
    }
    if (rc == 0) rc = fetch_json(s, "/tokenize", (vly_bytes){body.data, body.len}, &json, err);
    if (rc == 0) rc = take_ids(json, &s->text, err);
    cJSON_Delete(json);
    vly_text_free(&text);
    vly_text_free(&body);
    return rc;
}

/* ---- further fields ---- */

/* "{...}" as "...,": they come first, and so before fields of the same name. */
static int take_fields(vly_load_source *s, const char *fields, vly_error *err)
{
    cJSON *json;
    int rc = vly_json_parse(fields, strlen(fields), &json, err);
    if (rc) return vly_fail_within(err, "--fields");
    if (!cJSON_IsObject(json)) rc = vly_fail(err, VLY_E_INVALID, "--fields: expected an object");
    char *text = rc || !json->child ? NULL : cJSON_PrintUnformatted(json);
    if (text && (vly_text_append(&s->fields, text + 1, strlen(text) - 2) ||
                 vly_text_append(&s->fields, ",", 1)))
        rc = vly_fail(err, VLY_E_HOST_MEMORY, "no memory for --fields");
    cJSON_free(text);
    cJSON_Delete(json);
    return rc;
}

int vly_load_source_init(vly_load_source *s, const vly_serve_bench *o, uv_loop_t *loop,
                         vly_http_client *client, vly_error *err)
{
    *s = (vly_load_source){.options = o, .loop = loop, .client = client};
    int rc = o->fields ? take_fields(s, o->fields, err) : 0;
    if (rc == 0) rc = ask_models(s, err);
    if (rc == 0 && o->text) rc = tokenize_text(s, o->text, err);
    if (rc == 0 && !o->text && s->n_vocab == 0)
        rc = vly_fail(err, VLY_E_UNSUPPORTED,
                      "/v1/models does not tell how many tokens there are (data[0].meta.n_vocab), "
                      "which random prompts need: give --text FILE");
    return rc;
}

void vly_load_source_deinit(vly_load_source *s)
{
    vly_text_free(&s->fields);
    vly_ids_free(&s->text);
}
