#include "serve/openai_response.h"

#include <inttypes.h>
#include <string.h>

/* ---- log-probabilities ---- */

/* JSON has no infinity: OpenAI's stand-in for what is impossible. */
static double finite(float logprob)
{
    return logprob >= -9999.0f ? (double)logprob : -9999.0;
}

static void comma(vly_writer *w)
{
    if (w->text.len) vly_writer_put(w, ",", 1);
}

/* "token":..,"logprob":..,"bytes":[..] */
static void write_chat_token(vly_writer *w, const vly_engine *engine, uint32_t id, float logprob)
{
    size_t len;
    const char *bytes = vly_engine_token_bytes(engine, id, &len);
    vly_writer_text(w, "\"token\":");
    vly_writer_bytes(w, bytes, len);
    vly_writer_text(w, ",\"logprob\":");
    vly_writer_real(w, finite(logprob), 6);
    vly_writer_text(w, ",\"bytes\":[");
    for (size_t i = 0; i < len; i++)
        vly_writer_format(w, i ? ",%u" : "%u", (unsigned)(unsigned char)bytes[i]);
    vly_writer_text(w, "]");
}

static void add_chat_token(vly_writer *w, const vly_engine *engine, uint32_t id,
                           const vly_token_logprobs *token)
{
    comma(w);
    vly_writer_text(w, "{");
    write_chat_token(w, engine, id, token->logprob);
    vly_writer_text(w, ",\"top_logprobs\":[");
    for (uint32_t i = 0; i < token->n_top; i++) {
        vly_writer_text(w, i ? ",{" : "{");
        write_chat_token(w, engine, token->top[i].id, token->top[i].logprob);
        vly_writer_text(w, "}");
    }
    vly_writer_text(w, "]}");
}

static void add_text_token(vly_openai_logprobs *l, const vly_engine *engine, uint32_t id,
                           const vly_token_logprobs *token)
{
    size_t len;
    const char *bytes = vly_engine_token_bytes(engine, id, &len);
    for (int i = 0; i < 4; i++) comma(&l->part[i]);
    vly_writer_bytes(&l->part[0], bytes, len);
    vly_writer_real(&l->part[1], finite(token->logprob), 6);
    vly_writer_text(&l->part[2], "{");
    for (uint32_t i = 0; i < token->n_top; i++) {
        size_t n;
        const char *top = vly_engine_token_bytes(engine, token->top[i].id, &n);
        if (i) vly_writer_text(&l->part[2], ",");
        vly_writer_bytes(&l->part[2], top, n);
        vly_writer_text(&l->part[2], ":");
        vly_writer_real(&l->part[2], finite(token->top[i].logprob), 6);
    }
    vly_writer_text(&l->part[2], "}");
    vly_writer_format(&l->part[3], "%" PRIu64, l->offset);
    bool dropped = l->drops_space && len && bytes[0] == ' ';
    for (size_t i = dropped; i < len; i++) l->offset += ((unsigned char)bytes[i] & 0xC0) != 0x80;
    if (len) l->drops_space = false;
}

void vly_openai_logprobs_add(vly_openai_logprobs *l, vly_openai_kind kind, const vly_engine *engine,
                             const uint32_t *ids, const vly_token_logprobs *tokens, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (kind == VLY_OPENAI_CHAT)
            add_chat_token(&l->part[0], engine, ids[i], &tokens[i]);
        else
            add_text_token(l, engine, ids[i], &tokens[i]);
    }
    l->n += n;
}

void vly_openai_logprobs_clear(vly_openai_logprobs *l)
{
    for (int i = 0; i < 4; i++) vly_writer_clear(&l->part[i]);
    l->n = 0;
}

void vly_openai_logprobs_deinit(vly_openai_logprobs *l)
{
    for (int i = 0; i < 4; i++) vly_text_free(&l->part[i].text);
}

static void write_logprobs(const vly_openai_answer *a, const vly_openai_logprobs *l,
                           vly_writer *out)
{
    static const char *const chat[] = {"{\"content\":["};
    static const char *const text[] = {"{\"tokens\":[", "],\"token_logprobs\":[",
                                       "],\"top_logprobs\":[", "],\"text_offset\":["};
    bool is_chat = a->kind == VLY_OPENAI_CHAT;
    if (!a->logprobs || !l || l->n == 0) {
        vly_writer_text(out, ",\"logprobs\":null");
        return;
    }
    vly_writer_text(out, ",\"logprobs\":");
    for (int i = 0; i < (is_chat ? 1 : 4); i++) {
        vly_writer_text(out, is_chat ? chat[i] : text[i]);
        vly_writer_put(out, l->part[i].text.data, l->part[i].text.len);
        out->failed |= l->part[i].failed;
    }
    vly_writer_text(out, is_chat ? "],\"refusal\":null}" : "]}");
}

/* ---- what is told at the end ---- */

static void write_usage(const vly_stats *s, vly_writer *out)
{
    vly_writer_format(out,
                      ",\"usage\":{\"prompt_tokens\":%u,\"completion_tokens\":%u,"
                      "\"total_tokens\":%u,\"prompt_tokens_details\":{\"cached_tokens\":%u}}",
                      s->prompt_tokens, s->generated_tokens, s->prompt_tokens + s->generated_tokens,
                      s->n_cached_tokens);
}

static double ratio(double part, double whole)
{
    return whole > 0 ? part / whole : 0;
}

/* As llama.cpp's server tells them. */
static void write_timings(const vly_stats *s, vly_writer *out)
{
    uint32_t computed = s->prompt_tokens - s->n_cached_tokens;
    /* The prompt's last token is taken in by the first pass that writes: alone it makes no rate. */
    double per_second = computed > 1 ? ratio(1000.0 * computed, s->prompt_ms) : 0;
    vly_writer_format(out,
                      ",\"timings\":{\"cache_n\":%u,\"prompt_n\":%u,\"prompt_ms\":%.3f,"
                      "\"prompt_per_token_ms\":%.3f,\"prompt_per_second\":%.3f,",
                      s->n_cached_tokens, computed, s->prompt_ms, ratio(s->prompt_ms, computed),
                      per_second);
    vly_writer_format(out,
                      "\"predicted_n\":%u,\"predicted_ms\":%.3f,\"predicted_per_token_ms\":%.3f,"
                      "\"predicted_per_second\":%.3f,\"draft_n\":%u,\"draft_n_accepted\":%u}",
                      s->generated_tokens, s->generate_ms,
                      ratio(s->generate_ms, s->generated_tokens),
                      ratio(1000.0 * s->generated_tokens, s->generate_ms), s->drafted, s->accepted);
}

/* As vLLM tells them. A step is a block that drafted something; acceptance_histogram[i] counts the
 * steps that accepted i tokens. Null where nothing was drafted. */
static void write_speculation(const vly_stats *s, uint32_t draft_max, vly_writer *out)
{
    uint32_t steps = s->drafted_by_position[0];
    if (steps == 0) {
        vly_writer_text(out, ",\"metrics\":{\"speculative_decoding\":null}");
        return;
    }
    vly_writer_format(out,
                      ",\"metrics\":{\"speculative_decoding\":{\"mean_acceptance_length\":%.6f,"
                      "\"draft_acceptance_rate\":%.6f,\"acceptance_histogram\":[",
                      1 + ratio(s->accepted, steps), ratio(s->accepted, s->drafted));
    uint32_t at_least = steps;
    for (uint32_t i = 0; i <= draft_max; i++) {
        uint32_t more = i < VLY_MAX_DRAFT ? s->accepted_by_position[i] : 0;
        vly_writer_format(out, i ? ",%u" : "%u", at_least - more);
        at_least = more;
    }
    vly_writer_format(out,
                      "],\"num_spec_steps\":%u,\"num_draft_tokens\":%u,"
                      "\"num_accepted_draft_tokens\":%u,\"num_spec_tokens\":%u}}",
                      steps, s->drafted, s->accepted, draft_max);
}

/* ---- answers ---- */

void vly_openai_answer_init(vly_openai_answer *a, const vly_openai_request *q, const char *id,
                            int64_t created, const char *model)
{
    bool chat = q->kind == VLY_OPENAI_CHAT;
    *a = (vly_openai_answer){.kind = q->kind,
                             .stream = q->stream,
                             .include_usage = q->include_usage,
                             .logprobs = q->engine.logprobs};
    const char *object = !chat       ? "text_completion"
                         : q->stream ? "chat.completion.chunk"
                                     : "chat.completion";
    vly_writer_format(&a->start,
                      "{\"id\":\"%s%s\",\"object\":\"%s\",\"created\":%" PRId64 ",\"model\":",
                      chat ? "chatcmpl-" : "cmpl-", id, object, created);
    vly_writer_bytes(&a->start, model, strlen(model));
    vly_writer_text(&a->start, ",\"system_fingerprint\":\"volley-" VLY_VERSION "\",\"choices\":[");
}

void vly_openai_answer_deinit(vly_openai_answer *a)
{
    vly_text_free(&a->start.text);
}

static void begin_event(const vly_openai_answer *a, vly_writer *out)
{
    if (a->stream) vly_writer_text(out, "data: ");
    vly_writer_put(out, a->start.text.data, a->start.text.len);
    out->failed |= a->start.failed;
}

static void end_event(const vly_openai_answer *a, vly_writer *out)
{
    vly_writer_text(out, a->stream ? "}\n\n" : "}");
}

/* The end of a chunk that is not the last. */
static void end_chunk(const vly_openai_answer *a, vly_writer *out)
{
    vly_writer_text(out, ",\"finish_reason\":null}]");
    if (a->include_usage) vly_writer_text(out, ",\"usage\":null");
    end_event(a, out);
}

void vly_openai_write_first(const vly_openai_answer *a, vly_writer *out)
{
    if (a->kind != VLY_OPENAI_CHAT) return;
    begin_event(a, out);
    vly_writer_text(out, "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
                         "\"logprobs\":null");
    end_chunk(a, out);
}

void vly_openai_write_text(const vly_openai_answer *a, const char *text, size_t len,
                           const vly_openai_logprobs *logprobs, vly_writer *out)
{
    bool chat = a->kind == VLY_OPENAI_CHAT;
    begin_event(a, out);
    vly_writer_text(out,
                    chat ? "{\"index\":0,\"delta\":{\"content\":\"" : "{\"index\":0,\"text\":\"");
    vly_writer_escaped(out, text, len);
    vly_writer_text(out, chat ? "\"}" : "\"");
    write_logprobs(a, logprobs, out);
    end_chunk(a, out);
}

void vly_openai_write_last(const vly_openai_answer *a, vly_finish finish, const vly_stats *stats,
                           uint32_t draft_max, vly_writer *out)
{
    begin_event(a, out);
    vly_writer_format(out, "{\"index\":0,%s,\"logprobs\":null,\"finish_reason\":\"%s\"}]",
                      a->kind == VLY_OPENAI_CHAT ? "\"delta\":{}" : "\"text\":\"\"",
                      vly_finish_name(finish));
    if (a->include_usage) {
        vly_writer_text(out, ",\"usage\":null");
        end_event(a, out);
        begin_event(a, out);
        vly_writer_text(out, "]");
        write_usage(stats, out);
    }
    write_timings(stats, out);
    write_speculation(stats, draft_max, out);
    end_event(a, out);
    vly_writer_text(out, "data: [DONE]\n\n");
}

void vly_openai_write_whole(const vly_openai_answer *a, const char *text, size_t len,
                            const vly_openai_logprobs *logprobs, vly_finish finish,
                            const vly_stats *stats, uint32_t draft_max, vly_writer *out)
{
    bool chat = a->kind == VLY_OPENAI_CHAT;
    begin_event(a, out);
    vly_writer_text(out, chat ? "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":"
                              : "{\"index\":0,\"text\":");
    vly_writer_string(out, text, len);
    if (chat) vly_writer_text(out, ",\"refusal\":null}");
    write_logprobs(a, logprobs, out);
    vly_writer_format(out, ",\"finish_reason\":\"%s\"}]", vly_finish_name(finish));
    write_usage(stats, out);
    write_timings(stats, out);
    write_speculation(stats, draft_max, out);
    end_event(a, out);
}
