/* Ollama's store: manifests/REGISTRY/NAMESPACE/MODEL/TAG say which blobs make a model. */
#include "store/manifest.h"
#include "store/name.h"
#include "store/store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SERVICE_ROOT "/usr/share/ollama/.ollama/models" /* of its installer's system service */
#define N_ROOTS      3

/* The stores' folders, each to be freed, NULL where there is none. */
static void find_roots(char *roots[N_ROOTS])
{
    const char *own = getenv("OLLAMA_MODELS"), *home = getenv("HOME");
    roots[0] = own && *own ? strdup(own) : NULL;
    roots[1] = home && *home ? vly_store_format("%s/.ollama/models", home) : NULL;
    roots[2] = strdup(SERVICE_ROOT);
}

static void free_roots(char *roots[N_ROOTS])
{
    for (int i = 0; i < N_ROOTS; i++) free(roots[i]);
}

char *vly_ollama_places(void)
{
    char *roots[N_ROOTS];
    find_roots(roots);
    char *places = vly_store_format("%s%s%s%s%s", roots[0] ? roots[0] : "", roots[0] ? ", " : "",
                                    roots[1] ? roots[1] : "", roots[1] ? ", " : "", SERVICE_ROOT);
    free_roots(roots);
    return places;
}

/* ---- files ---- */

/* Reads the regular file `path` of at most `max` bytes. */
static int read_small(const char *path, size_t max, vly_text *out, vly_error *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return vly_fail(err, errno == ENOENT || errno == ENOTDIR ? VLY_E_NOT_FOUND : VLY_E_IO,
                        "%s: %s", path, strerror(errno));
    int rc = 0;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        rc = vly_fail(err, VLY_E_IO, "%s: expected a regular file", path);
    else if ((uintmax_t)st.st_size > max)
        rc = vly_fail(err, VLY_E_FORMAT, "%s: expected at most %zu bytes, got %jd", path, max,
                      (intmax_t)st.st_size);
    if (rc == 0 && vly_text_append(out, "", 0))
        rc = vly_fail(err, VLY_E_HOST_MEMORY, "%s: no memory to read it", path);
    char chunk[4096];
    /* A file that grows meanwhile is no reason to read for ever. */
    for (ssize_t n = 1; rc == 0 && n > 0 && out->len <= max;) {
        n = read(fd, chunk, sizeof chunk);
        if (n < 0) rc = vly_fail(err, VLY_E_IO, "%s: %s", path, strerror(errno));
        if (n > 0 && vly_text_append(out, chunk, (size_t)n))
            rc = vly_fail(err, VLY_E_HOST_MEMORY, "%s: no memory to read it", path);
    }
    close(fd);
    return rc;
}

static int read_manifest(const char *path, vly_manifest *out, vly_error *err)
{
    vly_text text = {0};
    int rc = read_small(path, VLY_MAX_MANIFEST_BYTES, &text, err);
    if (rc == 0 && (rc = vly_manifest_parse(text.data, text.len, out, err)))
        vly_fail_within(err, "%s", path);
    vly_text_free(&text);
    return rc;
}

/* The path of a layer's blob, whose size is checked; to be freed. */
static int find_blob(const char *root, const vly_layer *layer, char **out, vly_error *err)
{
    struct stat st;
    *out = NULL;
    for (int i = 0; i < 2; i++) {
        /* Old stores have a colon. */
        char *path = vly_store_format("%s/blobs/sha256%c%s", root, i ? ':' : '-', layer->digest);
        if (!path) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a blob's path");
        if (stat(path, &st) != 0) {
            free(path);
            continue;
        }
        int rc = 0;
        if (!S_ISREG(st.st_mode))
            rc = vly_fail(err, VLY_E_IO, "%s: expected a regular file", path);
        else if ((uint64_t)st.st_size != layer->n_bytes)
            rc = vly_fail(err, VLY_E_FORMAT,
                          "%s: expected %llu bytes by its manifest, got %jd: incomplete?", path,
                          (unsigned long long)layer->n_bytes, (intmax_t)st.st_size);
        if (rc)
            free(path);
        else
            *out = path;
        return rc;
    }
    return vly_fail(err, VLY_E_NOT_FOUND, "expected the blob %s/blobs/sha256-%s, which is missing",
                    root, layer->digest);
}

/* ---- one model ---- */

/* The whole of a small layer; nothing where there is none. */
static int read_layer(const char *root, const vly_layer *layer, vly_text *out, vly_error *err)
{
    char *path;
    if (!layer->digest[0]) return 0;
    int rc = find_blob(root, layer, &path, err);
    if (rc) return rc;
    rc = read_small(path, layer->n_bytes, out, err);
    free(path);
    return rc;
}

static int read_params(const char *root, const vly_layer *layer, vly_store_params *out,
                       vly_error *err)
{
    vly_text text = {0};
    int rc = read_layer(root, layer, &text, err);
    if (rc == 0 && text.data) rc = vly_store_params_parse(text.data, text.len, out, err);
    vly_text_free(&text);
    return rc;
}

static int read_model(const char *root, const vly_manifest *manifest, vly_store_model *out,
                      vly_error *err)
{
    vly_text chat_template = {0}, system = {0};
    *out = (vly_store_model){.params = vly_store_params_default()};
    int rc = find_blob(root, &manifest->layers[VLY_LAYER_MODEL], &out->path, err);
    if (rc == 0) rc = read_layer(root, &manifest->layers[VLY_LAYER_TEMPLATE], &chat_template, err);
    if (rc == 0) rc = read_layer(root, &manifest->layers[VLY_LAYER_SYSTEM], &system, err);
    if (rc == 0) rc = read_params(root, &manifest->layers[VLY_LAYER_PARAMS], &out->params, err);
    out->chat_template = chat_template.data;
    out->system = system.data;
    if (rc) vly_store_model_deinit(out);
    return rc;
}

static char *manifest_path(const char *root, const vly_model_name *name)
{
    return vly_store_format("%s/manifests/%s/%s/%s/%s", root, name->registry, name->namespace,
                            name->model, name->tag);
}

static int find_in(const char *root, const vly_model_name *name, vly_store_model *out,
                   vly_error *err)
{
    vly_manifest manifest;
    char *path = manifest_path(root, name);
    if (!path) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a manifest's path");
    int rc = read_manifest(path, &manifest, err);
    if (rc == 0 && (rc = read_model(root, &manifest, out, err))) {
        /* A missing blob is a broken model, not one that is not there. */
        if (rc == VLY_E_NOT_FOUND) err->code = rc = VLY_E_FORMAT;
        vly_fail_within(err, "%s", path);
    }
    free(path);
    return rc;
}

int vly_ollama_find(const char *text, vly_store_model *out, vly_error *err)
{
    vly_model_name name;
    if (vly_model_name_parse(text, &name, NULL)) return VLY_E_NOT_FOUND;
    char *roots[N_ROOTS];
    find_roots(roots);
    int rc = VLY_E_NOT_FOUND;
    for (int i = 0; i < N_ROOTS && rc == VLY_E_NOT_FOUND; i++)
        if (roots[i]) rc = find_in(roots[i], &name, out, err);
    free_roots(roots);
    return rc;
}

/* ---- listing ---- */

typedef struct {
    vly_store_list *list;
    const char *root;
    vly_model_name name;
    vly_name_part part; /* that the names in this folder are */
    vly_error *err;
} walk;

/* The model's blob, those of its other layers being there too. */
static int find_blobs(const char *root, const vly_manifest *manifest, char **out, vly_error *err)
{
    int rc = find_blob(root, &manifest->layers[VLY_LAYER_MODEL], out, err);
    for (int kind = 0; rc == 0 && kind < VLY_N_LAYERS; kind++) {
        char *path = NULL;
        if (kind != VLY_LAYER_MODEL && manifest->layers[kind].digest[0])
            rc = find_blob(root, &manifest->layers[kind], &path, err);
        free(path);
    }
    if (rc) {
        free(*out);
        *out = NULL;
    }
    return rc;
}

static int add(const walk *w)
{
    char text[VLY_MAX_MODEL_NAME];
    vly_manifest manifest;
    vly_error problem = {0};
    char *blob = NULL, *path = manifest_path(w->root, &w->name);
    if (!path) return vly_fail(w->err, VLY_E_HOST_MEMORY, "no memory for a manifest's path");
    if (read_manifest(path, &manifest, &problem) == 0 &&
        find_blobs(w->root, &manifest, &blob, &problem))
        vly_fail_within(&problem, "%s", path);
    free(path);
    vly_model_name_format(&w->name, text);
    return vly_store_list_add(w->list, "ollama", strdup(text), blob, problem.code ? &problem : NULL,
                              w->err);
}

static int visit(void *arg, const char *path, const char *name)
{
    walk *w = arg;
    if (!vly_model_name_set(&w->name, w->part, name)) return 0;
    if (w->part == VLY_NAME_TAG) return add(w);
    w->part++;
    int rc = vly_store_each(w->list, path, visit, w);
    w->part--;
    return rc;
}

int vly_ollama_list(vly_store_list *list, vly_error *err)
{
    char *roots[N_ROOTS];
    find_roots(roots);
    int rc = 0;
    for (int i = 0; i < N_ROOTS && rc == 0; i++) {
        char *manifests = roots[i] ? vly_store_format("%s/manifests", roots[i]) : NULL;
        walk w = {.list = list, .root = roots[i], .err = err};
        if (manifests) rc = vly_store_each(list, manifests, visit, &w);
        free(manifests);
    }
    free_roots(roots);
    return rc;
}
