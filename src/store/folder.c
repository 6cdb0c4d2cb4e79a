/* Folders of GGUF files: that of $VOLLEY_MODELS, and the one that the shipped models lie in. */
#include "store/store_internal.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHIPPED_TARGET "stories15M-q8_0"
#define SHIPPED_DRAFT  "smol-stories-11M-q8_0"
#define ENDING         ".gguf"

/* ---- the shipped models ---- */

/* The folder that the program lies in, to `folder` [PATH_MAX]; "." where that cannot be told. */
static void find_program_folder(char *folder)
{
    ssize_t n = readlink("/proc/self/exe", folder, PATH_MAX - 1);
    folder[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(folder, '/');
    if (slash)
        *slash = '\0';
    else
        strcpy(folder, ".");
}

#define N_SHIPPED_FOLDERS 3

/* Where shipped files may lie: installed as `folder`, or in a build's folder as `in_tree`. */
static void shipped_folders(const char *folder, const char *in_tree,
                            char folders[N_SHIPPED_FOLDERS][PATH_MAX + 32])
{
    char program[PATH_MAX];
    find_program_folder(program);
    snprintf(folders[0], sizeof folders[0], "%s/%s", VLY_DATADIR, folder);
    snprintf(folders[1], sizeof folders[1], "%s/../share/volley/%s", program, folder);
    snprintf(folders[2], sizeof folders[2], "%s/../../%s", program, in_tree);
}

char *vly_store_find_folder(const char *folder, const char *in_tree, const char *file)
{
    char folders[N_SHIPPED_FOLDERS][PATH_MAX + 32];
    shipped_folders(folder, in_tree, folders);
    for (int i = 0; i < N_SHIPPED_FOLDERS; i++) {
        char *path = vly_store_format("%s/%s", folders[i], file);
        bool there = path && access(path, F_OK) == 0;
        free(path);
        if (there) return realpath(folders[i], NULL);
    }
    return NULL;
}

/* The folder of the shipped models, to be freed; NULL where there is none. */
static char *shipped_folder(void)
{
    return vly_store_find_folder("models", "models", SHIPPED_TARGET ENDING);
}

int vly_store_find_shipped(char **target, char **draft, vly_error *err)
{
    char folders[N_SHIPPED_FOLDERS][PATH_MAX + 32], *folder = shipped_folder();
    shipped_folders("models", "models", folders);
    if (!folder)
        return vly_fail(
            err, VLY_E_NOT_FOUND,
            "the shipped pair is missing (name a target with -m): expected " SHIPPED_TARGET ENDING
            " in %s, %s or %s",
            folders[0], folders[1], folders[2]);
    *target = vly_store_format("%s/" SHIPPED_TARGET ENDING, folder);
    *draft = vly_store_format("%s/" SHIPPED_DRAFT ENDING, folder);
    free(folder);
    if (*target && *draft) return 0;
    free(*target);
    free(*draft);
    return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the shipped pair's paths");
}

/* ---- folders ---- */

#define N_FOLDERS 2

/* The folders, each to be freed, NULL where there is none. */
static void find_folders(char *folders[N_FOLDERS])
{
    const char *own = getenv("VOLLEY_MODELS");
    folders[0] = own && *own ? strdup(own) : NULL;
    folders[1] = shipped_folder();
}

static void free_folders(char *folders[N_FOLDERS])
{
    for (int i = 0; i < N_FOLDERS; i++) free(folders[i]);
}

/* Is it a path below a folder, without any "..", "." or empty part? */
static bool stays_below(const char *name)
{
    while (*name) {
        size_t n = strcspn(name, "/");
        if (n == 0 || name[0] == '.') return false;
        name += n;
        if (*name == '/' && !*++name) return false;
    }
    return true;
}

static bool is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

int vly_folder_find(const char *name, vly_store_model *out, vly_error *err)
{
    if (!*name || !stays_below(name)) return VLY_E_NOT_FOUND;
    char *folders[N_FOLDERS];
    find_folders(folders);
    int rc = VLY_E_NOT_FOUND;
    for (int i = 0; i < 2 * N_FOLDERS && rc == VLY_E_NOT_FOUND; i++) {
        if (!folders[i / 2]) continue;
        char *path = vly_store_format("%s/%s%s", folders[i / 2], name, i % 2 ? "" : ENDING);
        if (!path) rc = vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a model's path");
        if (!path || !is_file(path)) {
            free(path);
            continue;
        }
        *out = (vly_store_model){.path = path, .params = vly_store_params_default()};
        rc = 0;
    }
    free_folders(folders);
    return rc;
}

/* ---- listing ---- */

typedef struct {
    vly_store_list *list;
    const char *source, *root;
    vly_error *err;
} walk;

/* A later part of a split file: its first part stands for all. */
static bool is_later_part(const char *name)
{
    unsigned no, count;
    int n = 0;
    size_t len = strlen(name), n_ending = strlen("-00001-of-00001" ENDING);
    return len > n_ending &&
           sscanf(name + len - n_ending, "-%5u-of-%5u" ENDING "%n", &no, &count, &n) == 2 &&
           (size_t)n == n_ending && no > 1;
}

static int visit(void *arg, const char *path, const char *name)
{
    walk *w = arg;
    struct stat st;
    size_t n = strlen(name), n_ending = strlen(ENDING);
    if (stat(path, &st) != 0) return 0;
    if (S_ISDIR(st.st_mode)) return vly_store_each(w->list, path, visit, w);
    if (!S_ISREG(st.st_mode) || n <= n_ending || strcmp(name + n - n_ending, ENDING) != 0 ||
        is_later_part(name))
        return 0;
    const char *below = path + strlen(w->root) + 1;
    return vly_store_list_add(w->list, w->source,
                              vly_store_format("%.*s", (int)(strlen(below) - n_ending), below),
                              strdup(path), NULL, w->err);
}

int vly_folder_list(vly_store_list *list, vly_error *err)
{
    static const char *const sources[N_FOLDERS] = {"VOLLEY_MODELS", "shipped"};
    char *folders[N_FOLDERS];
    find_folders(folders);
    int rc = 0;
    for (int i = 0; i < N_FOLDERS && rc == 0; i++) {
        walk w = {.list = list, .source = sources[i], .root = folders[i], .err = err};
        if (folders[i]) rc = vly_store_each(list, folders[i], visit, &w);
    }
    free_folders(folders);
    return rc;
}
