/* The answers that need no sequence: what the server is, has and does; texts and tokens. */
#include "serve/server.h"

#include "serve/fields.h"
#include "serve/openai_request.h"
#include "text/json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void reply(vly_connection *c, int status, vly_writer *body)
{
    vly_reply_json(c, status, body);
    vly_text_free(&body->text);
}

static void write_string(vly_writer *out, const char *text)
{
    vly_writer_bytes(out, text, strlen(text));
}

/* ---- the server ---- */

void vly_answer_health(vly_connection *c)
{
    const vly_server *s = c->server;
    vly_writer body = {0};
    if (s->state == VLY_SERVER_READY) {
        vly_writer_text(&body, "{\"status\":\"ok\"}");
        reply(c, 200, &body);
        return;
    }
    bool loading = s->state == VLY_SERVER_LOADING;
    double progress = s->total_bytes ? (double)s->loaded_bytes / (double)s->total_bytes : 0;
    const char *status = s->failure.code ? "failed" : loading ? "loading model" : "shutting down";
    vly_writer_format(&body, "{\"status\":\"%s\",", status);
    if (loading) vly_writer_format(&body, "\"progress\":%.3f,", progress);
    vly_writer_text(&body, "\"error\":{\"message\":");
    write_string(&body, s->failure.code ? s->failure.message
                        : loading       ? "Loading model"
                                        : "Shutting down");
    vly_writer_text(&body, ",\"type\":\"unavailable_error\",\"param\":null,\"code\":503}}");
    reply(c, 503, &body);
}

void vly_answer_metrics(vly_connection *c)
{
    vly_writer body = {0};
    vly_metrics_write(&c->server->metrics, c->server->engine, c->server->n_connections, &body);
    vly_reply(c, 200, "text/plain; version=0.0.4; charset=utf-8", &body, "");
    vly_text_free(&body.text);
}

static void write_model(const vly_server *s, vly_writer *out)
{
    const vly_engine_info *info = vly_engine_get_info(s->engine);
    vly_writer_text(out, "{\"id\":");
    write_string(out, info->target_name);
    vly_writer_format(out,
                      ",\"object\":\"model\",\"created\":%" PRId64 ",\"owned_by\":\"volley\","
                      "\"meta\":{\"n_vocab\":%u,\"n_ctx\":%u,\"size\":%" PRIu64 ",\"draft\":",
                      s->started_s, info->n_vocab, info->n_ctx, info->target_bytes);
    if (info->draft_name)
        write_string(out, info->draft_name);
    else
        vly_writer_text(out, "null");
    vly_writer_text(out, "}}");
}

void vly_answer_models(vly_connection *c)
{
    vly_writer body = {0};
    vly_writer_text(&body, "{\"object\":\"list\",\"data\":[");
    write_model(c->server, &body);
    vly_writer_text(&body, "]}");
    reply(c, 200, &body);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'                 ? c - '0'
           : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                : -1;
}

/* Is `path` [n], with its %XX, this name? */
static bool is_name(const char *path, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++, name++) {
        int c = (unsigned char)path[i];
        if (c == '%' && n - i > 2 && hex_digit(path[i + 1]) >= 0 && hex_digit(path[i + 2]) >= 0) {
            c = hex_digit(path[i + 1]) * 16 + hex_digit(path[i + 2]);
            i += 2;
        }
        if (c == 0 || c != (unsigned char)*name) return false;
    }
    return *name == '\0';
}

void vly_answer_model(vly_connection *c)
{
    const char *name = vly_engine_get_info(c->server->engine)->target_name;
    const char *asked = c->reader.request.target.data + sizeof "/v1/models/" - 1;
    size_t len = strcspn(asked, "?");
    if (!is_name(asked, len, name)) {
        vly_api_error err;
        vly_api_fail(&err, 404, "model_not_found", "model", "there is no model '%.*s' but '%s'",
                     (int)(len < 128 ? len : 128), asked, name);
        vly_reply_error(c, &err);
        return;
    }
    vly_writer body = {0};
    write_model(c->server, &body);
    reply(c, 200, &body);
}

void vly_answer_props(vly_connection *c)
{
    const vly_server *s = c->server;
    const vly_engine_info *info = vly_engine_get_info(s->engine);
    const vly_serve_options *o = s->options;
    vly_draft_method method =
        o->draft_method == VLY_DRAFT_DEFAULT ? VLY_DRAFT_AUTO : o->draft_method;
    vly_writer body = {0};
    vly_writer_text(&body, "{\"model\":");
    write_string(&body, info->target_name);
    vly_writer_text(&body, ",\"draft\":");
    if (info->draft_name)
        write_string(&body, info->draft_name);
    else
        vly_writer_text(&body, "null");
    vly_writer_text(&body, ",\"device\":");
    write_string(&body, info->device_name);
    vly_writer_format(&body,
                      ",\"build_info\":\"volley " VLY_VERSION "\",\"n_ctx\":%u,\"n_vocab\":%u,"
                      "\"total_slots\":%u,\"queue_slots\":%u,",
                      info->n_ctx, info->n_vocab, s->n_parallel, s->n_queued);
    vly_writer_format(
        &body,
        "\"default_generation_settings\":{\"n_ctx\":%u,\"params\":{\"temperature\":1.0,"
        "\"top_p\":1.0,\"top_k\":0,\"min_p\":0.0,\"presence_penalty\":0.0,"
        "\"frequency_penalty\":0.0,\"repeat_penalty\":1.0,\"draft_max\":%u,"
        "\"draft_method\":\"%s\"}}}",
        info->n_ctx,
        o->draft_max == VLY_DRAFT_MAX_DEFAULT ? vly_draft_method_default_max(method) : o->draft_max,
        vly_draft_method_name(method));
    reply(c, 200, &body);
}

/* ---- texts and tokens ---- */

typedef struct {
    bool add_special, parse_special, with_pieces;
} tokenize_flags;

static int tokenize(const vly_server *s, const cJSON *object, vly_writer *out, vly_api_error *err)
{
    static const vly_field fields[] = {
        {"add_special", 1, vly_field_bool, offsetof(tokenize_flags, add_special), 0, 0},
        {"parse_special", 1, vly_field_bool, offsetof(tokenize_flags, parse_special), 0, 0},
        {"with_pieces", 1, vly_field_bool, offsetof(tokenize_flags, with_pieces), 0, 0},
    };
    tokenize_flags flags = {.parse_special = true};
    const cJSON *content = cJSON_GetObjectItemCaseSensitive(object, "content");
    vly_text text = {0};
    vly_error why;
    uint32_t *ids = NULL;
    size_t n = 0;
    if (vly_fields_read(fields, sizeof fields / sizeof *fields, 1, object, &flags, err)) return -1;
    if (!cJSON_IsString(content)) return vly_field_fail("content", "a string", content, err);
    int rc = vly_text_append(&text, "", 0);
    if (!rc) rc = vly_json_string(content, &text);
    if (rc)
        vly_fail(&why, rc, "no memory for the text");
    else
        rc = vly_engine_tokenize(s->engine, text.data, text.len, flags.add_special,
                                 flags.parse_special, &ids, &n, &why);
    vly_text_free(&text);
    if (rc) return vly_api_fail_engine(err, &why, "content");
    vly_writer_text(out, "{\"tokens\":[");
    for (size_t i = 0; i < n; i++) {
        size_t len;
        const char *piece = vly_engine_token_bytes(s->engine, ids[i], &len);
        vly_writer_text(out, i ? "," : "");
        vly_writer_format(out, flags.with_pieces ? "{\"id\":%u,\"piece\":" : "%u", ids[i]);
        if (flags.with_pieces) vly_writer_bytes(out, piece, len);
        if (flags.with_pieces) vly_writer_text(out, "}");
    }
    vly_writer_text(out, "]}");
    free(ids);
    return 0;
}

static int detokenize(const vly_server *s, const cJSON *object, vly_writer *out, vly_api_error *err)
{
    uint32_t n_vocab = vly_engine_get_info(s->engine)->n_vocab;
    const cJSON *tokens = cJSON_GetObjectItemCaseSensitive(object, "tokens");
    vly_ids ids = {0};
    vly_text text = {0};
    int rc = vly_openai_ids_read("tokens", tokens, n_vocab, &ids, err);
    bool at_start = s->drops_space;
    for (size_t i = 0; !rc && i < ids.len; i++) {
        size_t len;
        const char *bytes = vly_engine_token_bytes(s->engine, ids.data[i], &len);
        bool dropped = at_start && len > 0 && bytes[0] == ' ';
        if (len > 0) at_start = false;
        if (vly_text_append(&text, bytes + dropped, len - dropped))
            rc = vly_api_fail(err, 503, "out_of_memory", NULL, "no memory for the text");
    }
    if (!rc) {
        vly_writer_text(out, "{\"content\":");
        vly_writer_bytes(out, text.data ? text.data : "", text.len);
        vly_writer_text(out, "}");
    }
    vly_ids_free(&ids);
    vly_text_free(&text);
    return rc;
}

static int apply_template(const vly_server *s, const cJSON *object, vly_writer *out,
                          vly_api_error *err)
{
    vly_openai_messages messages = {0};
    char *text = NULL;
    size_t len;
    vly_error why;
    int rc = vly_openai_messages_read(object, &messages, err);
    if (!rc &&
        vly_engine_apply_template(s->engine, messages.list, messages.n, true, &text, &len, &why))
        rc = vly_api_fail_engine(err, &why, "messages");
    if (!rc) {
        vly_writer_text(out, "{\"prompt\":");
        vly_writer_bytes(out, text, len);
        vly_writer_text(out, "}");
    }
    free(text);
    vly_openai_messages_deinit(&messages);
    return rc;
}

typedef int (*answer_maker)(const vly_server *s, const cJSON *object, vly_writer *out,
                            vly_api_error *err);

typedef struct {
    vly_job job;
    answer_maker make;
    int rc;
    vly_api_error err;
    vly_writer body;
} answer_job;

static void make_answer(vly_job *job)
{
    answer_job *a = (answer_job *)job;
    cJSON *object;
    a->rc = vly_openai_parse_object(job->body.data, job->body.len, &object, &a->err);
    if (a->rc) return;
    a->rc = a->make(job->server, object, &a->body, &a->err);
    cJSON_Delete(object);
}

static void give_answer(vly_job *job, vly_connection *c)
{
    answer_job *a = (answer_job *)job;
    if (c && a->rc)
        vly_reply_error(c, &a->err);
    else if (c)
        vly_reply_json(c, 200, &a->body);
    vly_text_free(&a->body.text);
}

static void answer(vly_connection *c, answer_maker make)
{
    answer_job *a = calloc(1, sizeof *a);
    if (!a) {
        vly_api_error err;
        vly_api_fail(&err, 503, "out_of_memory", NULL, "no memory for the answer");
        vly_reply_error(c, &err);
        return;
    }
    a->job.work = make_answer;
    a->job.done = give_answer;
    a->make = make;
    vly_job_start(c, &a->job);
}

void vly_answer_tokenize(vly_connection *c)
{
    answer(c, tokenize);
}

void vly_answer_detokenize(vly_connection *c)
{
    answer(c, detokenize);
}

void vly_answer_apply_template(vly_connection *c)
{
    answer(c, apply_template);
}
