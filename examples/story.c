/* Writes a story with a target model, and with a draft model where one is given:
 *
 *     cc story.c -o story $(pkg-config --cflags --libs volley)
 *     ./story TARGET [DRAFT] */
#include <volley.h>

#include <stdio.h>
#include <string.h>

static void on_tokens(void *arg, const uint32_t *ids, const vly_token_logprobs *logprobs,
                      uint32_t n, const char *text, size_t len)
{
    (void)arg, (void)ids, (void)logprobs, (void)n;
    fwrite(text, 1, len, stdout);
    fflush(stdout);
}

static void on_finish(void *arg, vly_finish finish, const vly_stats *stats, const char *text,
                      size_t len, const vly_error *err)
{
    int *failed = arg;
    *failed = finish == VLY_FINISH_ERROR;
    printf("%.*s\n", (int)len, text);
    if (*failed)
        fprintf(stderr, "%s: %s\n", vly_error_name(err->code), err->message);
    else
        fprintf(stderr, "%u tokens in %u blocks\n", stats->generated_tokens, stats->blocks);
}

int main(int argc, char **argv)
{
    static const char prompt[] = "Once upon a time";
    if (argc < 2) {
        fprintf(stderr, "usage: %s TARGET [DRAFT]\n", argv[0]);
        return 2;
    }
    vly_engine_options options = {.target = argv[1], .draft = argc > 2 ? argv[2] : NULL};
    vly_engine *engine = NULL;
    vly_sequence *sequence;
    vly_error err;
    int failed = 0, rc = vly_engine_create(&options, &engine, &err);

    vly_request request = {.prompt = prompt,
                           .prompt_len = strlen(prompt),
                           .max_tokens = 60,
                           .sampling = vly_sampling_default(),
                           .draft_max = VLY_DRAFT_MAX_DEFAULT,
                           .on_tokens = on_tokens,
                           .on_finish = on_finish,
                           .arg = &failed};
    request.sampling.seed = 42; /* the same text every time, with any draft */
    if (rc == 0) rc = vly_engine_start(engine, &request, &sequence, NULL, NULL, &err);
    if (rc == 0) rc = vly_engine_run(engine, &err);
    if (rc) fprintf(stderr, "%s: %s\n", vly_error_name(rc), err.message);
    vly_engine_destroy(engine);
    return rc || failed;
}
