#include "store/store.h"

#include "gguf/quote.h"
#include "gguf/synthetic.h"
#include "store/name.h"
#include "store/near.h"
#include "store/store_internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define SHOWN_NAMES 5

char *vly_store_format(const char *format, ...)
{
    char *text;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    return n < 0 ? NULL : text;
}

/* ---- finding ---- */

static int find_path(const char *path, vly_store_model *out, vly_error *err)
{
    *out = (vly_store_model){.path = strdup(path), .params = vly_store_params_default()};
    return out->path ? 0 : vly_fail(err, VLY_E_HOST_MEMORY, "%s: no memory to open it", path);
}

static int find_by_name(const char *name, vly_store_model *out, vly_error *err)
{
    int rc = vly_folder_find(name, out, err);
    return rc == VLY_E_NOT_FOUND ? vly_ollama_find(name, out, err) : rc;
}

/* The one name that differs from `name` only in case, or in case and the tag being left out; NULL
 * where there is none, or more than one. */
static const char *find_in_other_case(const vly_store_list *list, const char *name)
{
    const char *found = NULL;
    size_t n = strlen(name);
    for (size_t i = 0; i < list->n; i++) {
        const char *other = list->entries[i].name;
        if (strncasecmp(other, name, n) != 0) continue;
        if (other[n] && strcasecmp(other + n, ":latest") != 0) continue;
        if (found && strcmp(found, other) != 0) return NULL;
        found = other;
    }
    return found;
}

static int fail_not_found(const vly_store_list *list, const char *name, vly_error *err)
{
    /* It is listed, and still there is no such file: a link to nowhere. */
    for (size_t i = 0; i < list->n; i++)
        if (strcmp(list->entries[i].name, name) == 0 && list->entries[i].problem.code) {
            *err = list->entries[i].problem;
            return err->code;
        }
    vly_model_name parsed;
    if (vly_model_name_parse(name, &parsed, err)) {
        vly_fail_within(err, "%s: No such file or directory, nor a model's name", name);
        return err->code = VLY_E_NOT_FOUND;
    }
    const vly_store_entry *near[SHOWN_NAMES];
    size_t n_near = vly_store_nearest(list, name, SHOWN_NAMES, near);
    char names[SHOWN_NAMES * (sizeof(vly_quoted) + 2)] = "";
    for (size_t i = 0, n = 0; i < n_near; i++) {
        vly_bytes bytes = {near[i]->name, strlen(near[i]->name)};
        n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "",
                              vly_quote(bytes).text);
    }
    char *places = vly_ollama_places();
    if (n_near)
        vly_fail(err, VLY_E_NOT_FOUND,
                 "%s: No such file or directory, and no model of that name; near ones are %s", name,
                 names);
    else
        vly_fail(err, VLY_E_NOT_FOUND,
                 "%s: No such file or directory, and no model of that name in $VOLLEY_MODELS, the "
                 "shipped models or Ollama's store (%s); 'volley models' lists what there is",
                 name, places ? places : "");
    free(places);
    return VLY_E_NOT_FOUND;
}

/* Only what a path can begin with begins so. */
static bool is_only_a_path(const char *name)
{
    return name[0] == '/' || name[0] == '.';
}

int vly_store_find(const char *name, vly_store_model *out, vly_error *err)
{
    struct stat st;
    vly_store_list list = {0};
    if (!*name)
        return vly_fail(err, VLY_E_INVALID,
                        "expected the path or name of a model, got an empty one");
    bool there = !vly_synthetic_is(name) && stat(name, &st) == 0;
    bool folder = there && S_ISDIR(st.st_mode); /* which may well be called as a model is */
    if (vly_synthetic_is(name) || (there && !folder) || is_only_a_path(name))
        return find_path(name, out, err);
    if (!there && errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG)
        return find_path(name, out, err);
    int rc = find_by_name(name, out, err);
    if (rc != VLY_E_NOT_FOUND) return rc;
    if (folder) return find_path(name, out, err);
    rc = vly_store_list_all(&list, err);
    if (rc == 0) {
        const char *other = find_in_other_case(&list, name);
        rc = other ? find_by_name(other, out, err) : VLY_E_NOT_FOUND;
        if (rc == VLY_E_NOT_FOUND) rc = fail_not_found(&list, name, err);
    }
    vly_store_list_deinit(&list);
    return rc;
}

void vly_store_model_deinit(vly_store_model *model)
{
    free(model->path);
    free(model->chat_template);
    free(model->system);
    vly_store_params_deinit(&model->params);
    *model = (vly_store_model){.params = vly_store_params_default()};
}

int vly_store_open(const char *name, vly_gguf **out, vly_error *err)
{
    vly_store_model model;
    *out = NULL;
    int rc = vly_store_find(name, &model, err);
    if (rc) return rc;
    rc = vly_gguf_open(model.path, out, err);
    vly_store_model_deinit(&model);
    return rc;
}

/* ---- listing ---- */

static bool has_name(const vly_store_list *list, const char *name)
{
    for (size_t i = 0; i < list->n; i++)
        if (strcmp(list->entries[i].name, name) == 0) return true;
    return false;
}

/* Room for one more. */
static bool grow(vly_store_list *list)
{
    if (list->n < list->cap) return true;
    size_t cap = list->cap ? 2 * list->cap : 16;
    vly_store_entry *entries = realloc(list->entries, cap * sizeof *entries);
    if (!entries) return false;
    list->entries = entries;
    list->cap = cap;
    return true;
}

int vly_store_list_add(vly_store_list *list, const char *source, char *name, char *path,
                       const vly_error *problem, vly_error *err)
{
    bool complete = name && (path || problem);
    bool wanted = complete && list->n < VLY_MAX_LISTED && !has_name(list, name);
    if (wanted && grow(list)) {
        list->entries[list->n++] =
            (vly_store_entry){name, path, problem ? *problem : (vly_error){0}, source};
        return 0;
    }
    free(name);
    free(path);
    if (complete && !wanted) return 0;
    return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the list of models");
}

static int is_shown(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* Notes that the walk is within `path` from now on; false where it is already, or too deep. */
static bool enter(struct vly_store_walk *walk, const char *path)
{
    struct stat st;
    if (walk->n_open == sizeof walk->open / sizeof *walk->open || stat(path, &st) != 0)
        return false;
    for (size_t i = 0; i < walk->n_open; i++)
        if (walk->open[i].device == st.st_dev && walk->open[i].inode == st.st_ino) return false;
    walk->open[walk->n_open].device = st.st_dev;
    walk->open[walk->n_open++].inode = st.st_ino;
    return true;
}

int vly_store_each(vly_store_list *list, const char *path, vly_store_visit fn, void *arg)
{
    struct dirent **names;
    if (!enter(list->walk, path)) return 0;
    int rc = 0, n = scandir(path, &names, is_shown, by_name);
    for (int i = 0; i < n; i++) {
        bool enough = rc || ++list->walk->n_visited > VLY_MAX_VISITED;
        char *below = enough ? NULL : vly_store_format("%s/%s", path, names[i]->d_name);
        if (below) rc = fn(arg, below, names[i]->d_name);
        free(below);
        free(names[i]);
    }
    if (n >= 0) free(names);
    list->walk->n_open--;
    return rc;
}

int vly_store_list_all(vly_store_list *out, vly_error *err)
{
    struct vly_store_walk walk = {0};
    *out = (vly_store_list){.walk = &walk};
    int rc = vly_folder_list(out, err);
    if (rc == 0) rc = vly_ollama_list(out, err);
    out->walk = NULL;
    return rc;
}

void vly_store_list_deinit(vly_store_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        free(list->entries[i].name);
        free(list->entries[i].path);
    }
    free(list->entries);
    *list = (vly_store_list){0};
}
