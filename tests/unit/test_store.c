/* Models by name: in folders and in a store like Ollama's, which the tests make; and what must lead
 * nowhere. */
#include "store/manifest.h"
#include "store/name.h"
#include "store/near.h"
#include "store/store.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MODEL_TYPE "application/vnd.ollama.image.model"
#define DIGEST     "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static char folder[] = "/tmp/volley-test-XXXXXX";

/* ---- files ---- */

static const char *path_of(const char *name)
{
    static char path[4][512];
    static int i;
    i = (i + 1) % 4;
    snprintf(path[i], sizeof path[i], "%s/%s", folder, name);
    return path[i];
}

/* Writes a file, and the folders that it lies in. */
static void put(const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s", path_of(name));
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0777);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

/* A manifest with one layer, of the model. */
static const char *manifest(const char *digest, size_t n_bytes)
{
    static char text[512];
    snprintf(text, sizeof text,
             "{\"schemaVersion\":2,\"layers\":[{\"mediaType\":\"" MODEL_TYPE
             "\",\"digest\":\"%s\",\"size\":%zu}]}",
             digest, n_bytes);
    return text;
}

#define LIBRARY "store/manifests/registry.ollama.ai/library/"

static void assert_found(const char *name, const char *path)
{
    vly_store_model model;
    vly_error err = {0};
    if (vly_store_find(name, &model, &err)) fail_msg("%s: %s", name, err.message);
    assert_string_equal(model.path, path);
    vly_store_model_deinit(&model);
}

static void assert_refused(const char *name, int code, const char *text)
{
    vly_store_model model;
    vly_error err = {0};
    assert_int_equal(vly_store_find(name, &model, &err), code);
    assert_int_equal(err.code, code);
    if (!strstr(err.message, text)) fail_msg("%s: no '%s' in: %s", name, text, err.message);
}

/* ---- names ---- */

static void names_have_four_parts(void **state)
{
    (void)state;
    static const char *const cases[][5] = {
        {"mistral", "registry.ollama.ai", "library", "mistral", "latest"},
        {"smollm2:135m", "registry.ollama.ai", "library", "smollm2", "135m"},
        {"org/model", "registry.ollama.ai", "org", "model", "latest"},
        {"hf.co/org/Repo-GGUF:Q4_K_M", "hf.co", "org", "Repo-GGUF", "Q4_K_M"},
        {"localhost:5000/org/model", "localhost:5000", "org", "model", "latest"},
        {"a/b/c:d.gguf", "a", "b", "c", "d.gguf"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vly_model_name name;
        vly_error err = {0};
        if (vly_model_name_parse(cases[i][0], &name, &err)) fail_msg("%s", err.message);
        assert_string_equal(name.registry, cases[i][1]);
        assert_string_equal(name.namespace, cases[i][2]);
        assert_string_equal(name.model, cases[i][3]);
        assert_string_equal(name.tag, cases[i][4]);
    }
}

static void names_are_written_without_defaults(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"mistral", "mistral:latest"},
        {"registry.ollama.ai/library/mistral:7b", "mistral:7b"},
        {"registry.ollama.ai/org/model:1", "org/model:1"},
        {"hf.co/library/model", "hf.co/library/model:latest"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vly_model_name name;
        char text[VLY_MAX_MODEL_NAME];
        assert_int_equal(vly_model_name_parse(cases[i][0], &name, NULL), 0);
        vly_model_name_format(&name, text);
        assert_string_equal(text, cases[i][1]);
    }
}

static void names_that_are_none_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"",       ":",        "a:",        ":b",          "/a",
                                        "a/",     "a//b",     "a/b/c/d",   "..",          "../a",
                                        "a/..",   "a/../b",   "a:..",      "a:b:c",       ".a",
                                        "-a",     "a b",      "a\n",       "a\\b",        "a%2e",
                                        "a:b/c:", "~/a",      "a@b",       "caf\xc3\xa9", "a/b:c/d",
                                        "a:/b",   "a\x1b[2J", "http://a/b"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        vly_model_name name;
        vly_error err = {0};
        if (vly_model_name_parse(names[i], &name, &err) != VLY_E_INVALID)
            fail_msg("took '%s'", names[i]);
        assert_non_null(strstr(err.message, "MODEL[:TAG]"));
        assert_null(strchr(err.message, '\x1b'));
    }
    char *text = calloc(1, 100000);
    vly_model_name name;
    memset(text, 'a', VLY_MAX_NAME_PART);
    assert_int_equal(vly_model_name_parse(text, &name, NULL), 0);
    text[VLY_MAX_NAME_PART] = 'a';
    assert_int_equal(vly_model_name_parse(text, &name, NULL), VLY_E_INVALID);
    memset(text, 'a', 99999);
    assert_int_equal(vly_model_name_parse(text, &name, NULL), VLY_E_INVALID);
    free(text);
}

/* ---- near names ---- */

static void distances_are_those_of_levenshtein(void **state)
{
    (void)state;
    assert_int_equal(vly_name_distance("", ""), 0);
    assert_int_equal(vly_name_distance("", "abc"), 3);
    assert_int_equal(vly_name_distance("kitten", "sitting"), 3);
    assert_int_equal(vly_name_distance("sitting", "kitten"), 3);
    assert_int_equal(vly_name_distance("flaw", "lawn"), 2);
    assert_int_equal(vly_name_distance("Mistral", "mistral"), 0);
    char *text = calloc(1, VLY_MAX_NEAR_BYTES + 2);
    memset(text, 'a', VLY_MAX_NEAR_BYTES);
    assert_int_equal(vly_name_distance("aa", text), VLY_MAX_NEAR_BYTES - 2);
    text[VLY_MAX_NEAR_BYTES] = 'a';
    assert_true(vly_name_distance("aa", text) == SIZE_MAX);
    free(text);
}

static void the_nearest_names_come_first(void **state)
{
    (void)state;
    static char names[][32] = {"llama3.2:1b",  "mistral:latest", "hf.co/org/mistral-7b:q4",
                               "mixtral:8x7b", "smollm2:135m",   "x"};
    vly_store_entry entries[6];
    for (int i = 0; i < 6; i++) entries[i] = (vly_store_entry){.name = names[i]};
    const vly_store_list list = {.entries = entries, .n = 6};
    const vly_store_entry *near[6];
    assert_int_equal(vly_store_nearest(&list, "mistrl", 6, near), 2);
    assert_string_equal(near[0]->name, "mistral:latest");
    assert_string_equal(near[1]->name, "mixtral:8x7b");
    assert_int_equal(vly_store_nearest(&list, "mistral-7b", 6, near), 3);
    assert_string_equal(near[0]->name, "hf.co/org/mistral-7b:q4");
    assert_int_equal(vly_store_nearest(&list, "LLAMA", 6, near), 1); /* a part of the name */
    assert_int_equal(vly_store_nearest(&list, "smollm2", 6, near), 1);
    assert_int_equal(vly_store_nearest(&list, "qwen2.5", 6, near), 0);
    assert_int_equal(vly_store_nearest(&list, "mistral", 1, near), 1);
    assert_string_equal(near[0]->name, "mistral:latest");
}

/* ---- manifests ---- */

static void assert_manifest_refused(const char *text, int code, const char *why)
{
    vly_manifest m;
    vly_error err = {0};
    assert_int_equal(vly_manifest_parse(text, strlen(text), &m, &err), code);
    if (!strstr(err.message, why)) fail_msg("no '%s' in: %s", why, err.message);
}

static void manifests_name_layers(void **state)
{
    (void)state;
    static const char text[] =
        "{\"layers\":[{\"mediaType\":\"application/vnd.ollama.image.license\",\"digest\":1},"
        "{\"mediaType\":\"" MODEL_TYPE "\",\"digest\":\"sha256:" DIGEST "\",\"size\":5,"
        "\"from\":\"/etc/passwd\"},"
        "{\"mediaType\":\"application/vnd.ollama.image.template\",\"digest\":\"sha256-" DIGEST
        "\",\"size\":0}, 7, null, {}, []]}";
    vly_manifest m;
    vly_error err = {0};
    if (vly_manifest_parse(text, strlen(text), &m, &err)) fail_msg("%s", err.message);
    assert_string_equal(m.layers[VLY_LAYER_MODEL].digest, DIGEST);
    assert_int_equal(m.layers[VLY_LAYER_MODEL].n_bytes, 5);
    assert_string_equal(m.layers[VLY_LAYER_TEMPLATE].digest, DIGEST);
    assert_string_equal(m.layers[VLY_LAYER_PARAMS].digest, "");
}

static void hostile_manifests_are_refused(void **state)
{
    (void)state;
    static const char *const digests[] = {
        "",
        "sha256:",
        "sha256:../../../../etc/passwd",
        "sha256:/etc/passwd",
        "../../../../../../../../../../../../../../../../../../../../etc/passwd",
        "sha512:" DIGEST,
        "sha256:" DIGEST "0",
        "sha256:" DIGEST "/../x",
        " sha256:" DIGEST,
        "sha256:g123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "sha256:\\u0000123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde",
        "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\\u0000",
    };
    for (size_t i = 0; i < sizeof digests / sizeof *digests; i++)
        assert_manifest_refused(manifest(digests[i], 1), VLY_E_FORMAT, "model layer: digest:");
    static const char *const sizes[] = {"-1", "1.5", "1e300", "\"5\"", "null", "[]", "1e16"};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char text[512];
        snprintf(text, sizeof text,
                 "{\"layers\":[{\"mediaType\":\"" MODEL_TYPE "\",\"digest\":\"sha256:" DIGEST
                 "\",\"size\":%s}]}",
                 sizes[i]);
        assert_manifest_refused(text, VLY_E_FORMAT, "model layer: size:");
    }
    assert_manifest_refused("", VLY_E_FORMAT, "JSON");
    assert_manifest_refused("{", VLY_E_FORMAT, "JSON");
    assert_manifest_refused("[]", VLY_E_FORMAT, "'layers'");
    assert_manifest_refused("{\"layers\":{}}", VLY_E_FORMAT, "'layers'");
    assert_manifest_refused("{\"layers\":[]}", VLY_E_FORMAT, "found none");
    assert_manifest_refused("{\"layers\":[]} x", VLY_E_FORMAT, "JSON");
    assert_manifest_refused(
        "{\"layers\":[{\"mediaType\":\"application/vnd.ollama.image.tensor\"}]}", VLY_E_FORMAT,
        "found none");
    assert_manifest_refused(
        "{\"layers\":[{\"mediaType\":\"application/vnd.ollama.image.adapter\"}]}",
        VLY_E_UNSUPPORTED, "adapter");
#define LAYER "{\"mediaType\":\"" MODEL_TYPE "\",\"digest\":\"sha256:" DIGEST "\",\"size\":5}"
    assert_manifest_refused("{\"layers\":[" LAYER "," LAYER "]}", VLY_E_UNSUPPORTED, "more");
    assert_manifest_refused("{\"layers\":[{\"mediaType\":\"application/vnd.ollama.image.params\","
                            "\"digest\":\"sha256:" DIGEST "\",\"size\":1048577}]}",
                            VLY_E_FORMAT, "params layer: size:");
    char *deep = calloc(1, 200001);
    memset(deep, '[', 200000);
    assert_manifest_refused(deep, VLY_E_FORMAT, "JSON");
    free(deep);
}

/* ---- parameters ---- */

static void parameters_are_read(void **state)
{
    (void)state;
    static const char text[] =
        "{\"temperature\":0.25,\"top_k\":40,\"top_p\":0.5,\"min_p\":0.0625,\"repeat_penalty\":1.5,"
        "\"repeat_last_n\":-1,\"num_ctx\":4096,\"num_predict\":-1,\"mirostat\":1,"
        "\"stop\":[\"<|im_end|>\",\"\",\"a\\u0000b\",7,\"</s>\"]}";
    vly_store_params p;
    vly_error err = {0};
    if (vly_store_params_parse(text, strlen(text), &p, &err)) fail_msg("%s", err.message);
    assert_true(p.sampling.temperature == 0.25f && p.sampling.top_p == 0.5f);
    assert_true(p.sampling.min_p == 0.0625f && p.sampling.repeat_penalty == 1.5f);
    assert_int_equal(p.sampling.top_k, 40);
    assert_true(p.sampling.penalty_last_n == UINT32_MAX && p.max_tokens == UINT32_MAX);
    assert_int_equal(p.n_ctx, 4096);
    assert_int_equal(p.n_stop, 2);
    assert_string_equal(p.stop[0], "<|im_end|>");
    assert_string_equal(p.stop[1], "</s>");
    vly_store_params_deinit(&p);
    assert_int_equal(p.n_stop, 0);
}

static void odd_parameters_are_left_out(void **state)
{
    (void)state;
    static const char text[] =
        "{\"temperature\":-1,\"top_k\":1.5,\"top_p\":0,\"min_p\":\"0.5\",\"num_ctx\":1e300,"
        "\"repeat_last_n\":null,\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\"]}";
    vly_store_params p, none = vly_store_params_default();
    vly_error err = {0};
    if (vly_store_params_parse(text, strlen(text), &p, &err)) fail_msg("%s", err.message);
    assert_memory_equal(&p.sampling, &none.sampling, sizeof none.sampling);
    assert_int_equal(p.n_ctx, 0);
    assert_int_equal(p.n_stop, VLY_MAX_STOP);
    vly_store_params_deinit(&p);
    assert_int_equal(vly_store_params_parse("[]", 2, &p, &err), VLY_E_FORMAT);
    assert_int_equal(vly_store_params_parse("{", 1, &p, &err), VLY_E_FORMAT);
    assert_int_equal(vly_store_params_parse("{\"stop\":\"x\"}", 12, &p, &err), 0);
    assert_int_equal(p.n_stop, 1);
    vly_store_params_deinit(&p);
}

/* ---- finding ---- */

static void names_lead_into_the_store(void **state)
{
    (void)state;
    put("store/blobs/sha256-" DIGEST, "model");
    put(LIBRARY "mistral/latest", manifest("sha256:" DIGEST, 5));
    put(LIBRARY "mistral/7B", manifest("sha256:" DIGEST, 5));
    put("store/manifests/hf.co/org/Repo/Q4_K_M", manifest("sha256:" DIGEST, 5));
    const char *blob = path_of("store/blobs/sha256-" DIGEST);
    assert_found("mistral", blob);
    assert_found("mistral:latest", blob);
    assert_found("Mistral", blob);
    assert_found("mistral:7b", blob);
    assert_found("registry.ollama.ai/library/mistral", blob);
    assert_found("hf.co/org/Repo:Q4_K_M", blob);
    assert_found("HF.co/org/repo:q4_k_m", blob);
    assert_refused("mistral:8b", VLY_E_NOT_FOUND, "near ones are 'mistral:7B', 'mistral:latest'");
    assert_refused("hf.co/org/Repo", VLY_E_NOT_FOUND, "'hf.co/org/Repo:Q4_K_M'");
    assert_refused("zzzzzzzz", VLY_E_NOT_FOUND, folder);
    assert_refused("", VLY_E_INVALID, "empty");
}

static void old_stores_have_colons(void **state)
{
    (void)state;
    put("store/blobs/sha256:1" /* 64 digits in all */
        "123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "old");
    put(LIBRARY "old/latest",
        manifest("sha256:1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", 3));
    vly_store_model model;
    vly_error err = {0};
    if (vly_store_find("old", &model, &err)) fail_msg("%s", err.message);
    assert_non_null(strstr(model.path, "/blobs/sha256:11"));
    vly_store_model_deinit(&model);
}

static void layers_are_defaults(void **state)
{
    (void)state;
#define D(digit) digit "123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define TYPE(name, digit, size)                                                                    \
    "{\"mediaType\":\"application/vnd.ollama.image." name                                          \
    "\",\"digest\":\"sha256:" D(digit) "\",\"size\":" size "}"
    put("store/blobs/sha256-" D("2"), "model");
    put("store/blobs/sha256-" D("3"), "{{ .Prompt }}");
    put("store/blobs/sha256-" D("4"), "Be kind.");
    put("store/blobs/sha256-" D("5"), "{\"temperature\":0.5}");
    put(LIBRARY "full/latest",
        "{\"layers\":[" TYPE("model", "2", "5") "," TYPE("template", "3", "13") "," TYPE(
            "system", "4", "8") "," TYPE("params", "5", "19") "]}");
    vly_store_model model;
    vly_error err = {0};
    if (vly_store_find("full", &model, &err)) fail_msg("%s", err.message);
    assert_string_equal(model.chat_template, "{{ .Prompt }}");
    assert_string_equal(model.system, "Be kind.");
    assert_true(model.params.sampling.temperature == 0.5f);
    vly_store_model_deinit(&model);
    put("store/blobs/sha256-" D("5"), "{\"temperature\":0.5");
    assert_refused("full", VLY_E_FORMAT, "expected 19 bytes by its manifest, got 18");
    put("store/blobs/sha256-" D("5"), "{\"temperature\":0.5 ");
    assert_refused("full", VLY_E_FORMAT, "JSON");
}

static void broken_models_say_why(void **state)
{
    (void)state;
    put(LIBRARY "cut/latest", manifest("sha256:" DIGEST, 6));
    put("store/blobs/sha256-" DIGEST, "model");
    assert_refused("cut", VLY_E_FORMAT, "expected 6 bytes by its manifest, got 5");
    put(LIBRARY "gone/latest", manifest("sha256:" D("9"), 6));
    assert_refused("gone", VLY_E_FORMAT, "expected the blob");
    put(LIBRARY "odd/latest", "<html>");
    assert_refused("odd", VLY_E_FORMAT, "library/odd/latest: expected one JSON value");
    put(LIBRARY "trick/latest", manifest("sha256:../../../../etc/passwd", 1));
    assert_refused("trick", VLY_E_FORMAT, "digest");
    put(LIBRARY "folder/latest/x", "");
    assert_refused("folder", VLY_E_IO, "expected a regular file");
    put(LIBRARY "pipe/x", "");
    assert_int_equal(mkfifo(path_of(LIBRARY "pipe/latest"), 0666), 0);
    assert_refused("pipe", VLY_E_IO, "expected a regular file");
    put(LIBRARY "large/latest", "");
    assert_int_equal(truncate(path_of(LIBRARY "large/latest"), 1 << 30), 0);
    assert_refused("large", VLY_E_FORMAT, "expected at most 1048576 bytes");
    put("store/blobs/sha256-" D("8") "/x", "");
    put(LIBRARY "blob/latest", manifest("sha256:" D("8"), 1));
    assert_refused("blob", VLY_E_IO, "expected a regular file");
}

static void tricks_lead_nowhere(void **state)
{
    (void)state;
    put("secret.gguf", "secret");
    put("secret", manifest("sha256:" DIGEST, 5));
    static const char *const names[] = {"mistral/../../../../../secret",
                                        "registry.ollama.ai/library/..:latest",
                                        "registry.ollama.ai/library/mistral:../../../../../secret",
                                        "hf.co/../../../../secret",
                                        "mistral:latest/../7B",
                                        "sub/../../secret",
                                        "sub//../../secret"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_refused(names[i], VLY_E_NOT_FOUND, "No such file or directory, nor a model's name");
}

static void a_path_that_exists_is_a_path(void **state)
{
    (void)state;
    char *before = getcwd(NULL, 0);
    assert_int_equal(chdir(folder), 0);
    put("mistral", "a file of the same name");
    assert_found("mistral", "mistral");
    assert_found("./mistral", "./mistral");
    assert_int_equal(unlink("mistral"), 0);
    assert_found("mistral", path_of("store/blobs/sha256-" DIGEST));
    assert_found("./mistral", "./mistral"); /* opening it will say that it is not there */
    assert_found("/nowhere/mistral", "/nowhere/mistral");
    assert_int_equal(chdir(before), 0);
    free(before);
}

static void folders_have_names_too(void **state)
{
    (void)state;
    put("models/small.gguf", "x");
    put("models/pub/repo/big.Q4_K.gguf", "x");
    put("models/pub/readme.txt", "x");
    assert_found("small", path_of("models/small.gguf"));
    assert_found("small.gguf", path_of("models/small.gguf"));
    assert_found("SMALL", path_of("models/small.gguf"));
    assert_found("pub/repo/big.Q4_K", path_of("models/pub/repo/big.Q4_K.gguf"));
    assert_refused("big", VLY_E_NOT_FOUND, "'pub/repo/big.Q4_K'");
    assert_refused("pub", VLY_E_NOT_FOUND, "'pub/repo/big.Q4_K'");
}

static void the_shipped_pair_is_found_by_name(void **state)
{
    (void)state;
    /* Found from where this program lies, if that is two folders below the root of the checkout. */
    vly_store_list list;
    vly_error err;
    assert_int_equal(vly_store_list_all(&list, &err), 0);
    for (size_t i = 0; i < list.n; i++) {
        if (strcmp(list.entries[i].source, "shipped") != 0) continue;
        assert_found(list.entries[i].name, list.entries[i].path);
    }
    vly_store_list_deinit(&list);
}

/* ---- listing ---- */

static const vly_store_entry *entry_of(const vly_store_list *list, const char *name)
{
    const vly_store_entry *found = NULL;
    for (size_t i = 0; i < list->n; i++) {
        if (strcmp(list->entries[i].name, name) != 0) continue;
        assert_null(found);
        found = &list->entries[i];
    }
    return found;
}

static void all_are_listed_once(void **state)
{
    (void)state;
    put("models/part-00001-of-00002.gguf", "x");
    put("models/part-00002-of-00002.gguf", "x");
    put("models/.hidden.gguf", "x");
    /* Links in circles, as many as a hostile folder has. */
    for (int i = 0; i < 20; i++) {
        char name[64];
        snprintf(name, sizeof name, "models/circle%d", i);
        (void)!symlink(".", path_of(name));
        snprintf(name, sizeof name, "store/manifests/circle%d", i);
        (void)!symlink(".", path_of(name));
    }
    vly_store_list list;
    vly_error err = {0};
    if (vly_store_list_all(&list, &err)) fail_msg("%s", err.message);
    assert_true(list.n < 30);
    const vly_store_entry *small = entry_of(&list, "small");
    assert_non_null(small);
    assert_string_equal(small->source, "VOLLEY_MODELS");
    assert_string_equal(small->path, path_of("models/small.gguf"));
    assert_non_null(entry_of(&list, "part-00001-of-00002"));
    assert_null(entry_of(&list, "part-00002-of-00002"));
    assert_null(entry_of(&list, ".hidden"));
    const vly_store_entry *mistral = entry_of(&list, "mistral:latest");
    assert_non_null(mistral);
    assert_string_equal(mistral->source, "ollama");
    assert_string_equal(mistral->path, path_of("store/blobs/sha256-" DIGEST));
    assert_non_null(entry_of(&list, "hf.co/org/Repo:Q4_K_M"));
    const vly_store_entry *odd = entry_of(&list, "odd:latest");
    assert_non_null(odd);
    assert_null(odd->path);
    assert_non_null(strstr(odd->problem.message, "expected one JSON value"));
    vly_store_list_deinit(&list);
}

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) return -1;
    setenv("OLLAMA_MODELS", path_of("store"), 1);
    setenv("VOLLEY_MODELS", path_of("models"), 1);
    setenv("HOME", path_of("home"), 1);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_have_four_parts),
        cmocka_unit_test(names_are_written_without_defaults),
        cmocka_unit_test(names_that_are_none_are_refused),
        cmocka_unit_test(distances_are_those_of_levenshtein),
        cmocka_unit_test(the_nearest_names_come_first),
        cmocka_unit_test(manifests_name_layers),
        cmocka_unit_test(hostile_manifests_are_refused),
        cmocka_unit_test(parameters_are_read),
        cmocka_unit_test(odd_parameters_are_left_out),
        cmocka_unit_test(names_lead_into_the_store),
        cmocka_unit_test(old_stores_have_colons),
        cmocka_unit_test(layers_are_defaults),
        cmocka_unit_test(broken_models_say_why),
        cmocka_unit_test(tricks_lead_nowhere),
        cmocka_unit_test(a_path_that_exists_is_a_path),
        cmocka_unit_test(folders_have_names_too),
        cmocka_unit_test(the_shipped_pair_is_found_by_name),
        cmocka_unit_test(all_are_listed_once),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
