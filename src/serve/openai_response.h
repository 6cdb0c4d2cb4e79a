/* The answers of /v1/completions and /v1/chat/completions: chunks of streams, and whole ones. */
#ifndef VLY_SERVE_OPENAI_RESPONSE_H
#define VLY_SERVE_OPENAI_RESPONSE_H

#include "serve/openai_request.h"

/* How likely the tokens of an answer, or of a chunk, were. */
typedef struct {
    vly_writer part[4]; /* JSON lists without their brackets */
    size_t n;
    uint64_t offset;  /* characters of text so far */
    bool drops_space; /* one before the first of them is none of the text's */
} vly_openai_logprobs;

/* Adds `n` tokens, [n] of each. Memory that is short shows in the writers. */
void vly_openai_logprobs_add(vly_openai_logprobs *logprobs, vly_openai_kind kind,
                             const vly_engine *engine, const uint32_t *ids,
                             const vly_token_logprobs *tokens, uint32_t n);
/* Forgets the tokens; the text goes on. */
void vly_openai_logprobs_clear(vly_openai_logprobs *logprobs);
void vly_openai_logprobs_deinit(vly_openai_logprobs *logprobs);

/* What all chunks of an answer have in common, written once. */
typedef struct {
    vly_openai_kind kind;
    bool stream, include_usage, logprobs;
    vly_writer start; /* {"id":...,"choices":[ */
} vly_openai_answer;

/* `id` without its prefix; `created` in seconds since 1970. */
void vly_openai_answer_init(vly_openai_answer *answer, const vly_openai_request *request,
                            const char *id, int64_t created, const char *model);
void vly_openai_answer_deinit(vly_openai_answer *answer);

/* What is appended to `out` are events of a stream ("data: {...}\n\n"), or the JSON of a whole
 * answer. `text` is UTF-8; `logprobs` are what was added since the last chunk. */
void vly_openai_write_first(const vly_openai_answer *answer, vly_writer *out);
void vly_openai_write_text(const vly_openai_answer *answer, const char *text, size_t len,
                           const vly_openai_logprobs *logprobs, vly_writer *out);
void vly_openai_write_last(const vly_openai_answer *answer, vly_finish finish,
                           const vly_stats *stats, uint32_t draft_max, vly_writer *out);
void vly_openai_write_whole(const vly_openai_answer *answer, const char *text, size_t len,
                            const vly_openai_logprobs *logprobs, vly_finish finish,
                            const vly_stats *stats, uint32_t draft_max, vly_writer *out);

#endif
