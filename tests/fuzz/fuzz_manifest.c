/* Any bytes as a manifest, as parameters and as a name: what comes out of them leads nowhere else.
 */
#include "store/manifest.h"
#include "store/name.h"
#include "store/params.h"

#include "base/log.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(bool good)
{
    if (!good) abort();
}

static void check_part(const char *part)
{
    check(part[0] && part[0] != '.' && !strpbrk(part, "/\\") && strlen(part) <= VLY_MAX_REGISTRY);
}

static void fuzz_name(const uint8_t *data, size_t n)
{
    vly_model_name name, again;
    char formatted[VLY_MAX_MODEL_NAME], *text = malloc(n + 1);
    check(text != NULL);
    memcpy(text, data, n);
    text[n] = '\0';
    vly_error err = {0};
    int rc = vly_model_name_parse(text, &name, &err);
    check(rc == err.code);
    free(text);
    if (rc) return;
    check_part(name.registry);
    check_part(name.namespace);
    check_part(name.model);
    check_part(name.tag);
    vly_model_name_format(&name, formatted);
    check(vly_model_name_parse(formatted, &again, NULL) == 0);
    check(strcmp(name.registry, again.registry) == 0 && strcmp(name.tag, again.tag) == 0);
    check(strcmp(name.namespace, again.namespace) == 0 && strcmp(name.model, again.model) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    vly_manifest manifest;
    vly_store_params params;
    vly_error err = {0};
    vly_log_configure(VLY_LOG_ERROR, false);
    int rc = vly_manifest_parse((const char *)data, n, &manifest, &err);
    check(rc == err.code && (rc == 0) == (err.message[0] == '\0'));
    for (int i = 0; rc == 0 && i < VLY_N_LAYERS; i++) {
        size_t n_digits = strlen(manifest.layers[i].digest);
        check(n_digits == 0 || n_digits == 64);
        check(strspn(manifest.layers[i].digest, "0123456789abcdefABCDEF") == n_digits);
    }
    err = (vly_error){0};
    check(vly_store_params_parse((const char *)data, n, &params, &err) == err.code);
    for (uint32_t i = 0; i < params.n_stop; i++) check(params.stop[i][0] != '\0');
    check(params.sampling.temperature >= 0 && params.sampling.temperature <= 100);
    vly_store_params_deinit(&params);
    fuzz_name(data, n);
    return 0;
}
