/* Templates in Go's language, as Ollama's store has them: which family spells the same turns. */
#include "text/chat_template.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const vly_bytes eos = {"</s>", 4};

static const struct {
    const char *source, *family; /* NULL: none */
} cases[] = {
    {"{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}{{ if .Prompt }}"
     "<|im_start|>user\n{{ .Prompt }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
     "{{ .Response }}<|im_end|>\n",
     "chatml"},
    {"{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end -}}\n"
     "<|im_start|>assistant\n",
     "chatml"},
    {"{{- range $i, $m := .Messages }}\n{{- if eq $m.Role \"user\" }}<|im_start|>user\n"
     "{{ $m.Content }}<|im_end|>\n{{ else if eq $m.Role \"assistant\" }}<|im_start|>assistant\n"
     "{{ $m.Content }}<|im_end|>\n{{ end }}{{ end }}<|im_start|>assistant\n",
     "chatml"},
    {"{{ if .System }}<|start_header_id|>system<|end_header_id|>\n\n{{ .System }}<|eot_id|>{{ end "
     "}}"
     "<|start_header_id|>user<|end_header_id|>\n\n{{ .Prompt }}<|eot_id|>"
     "<|start_header_id|>assistant<|end_header_id|>\n\n{{ .Response }}<|eot_id|>",
     "llama3"},
    {"{{- range $i, $_ := .Messages }}\n{{- if eq .Role \"user\" }}<|start_header_id|>user"
     "<|end_header_id|>\n{{- if $.Tools }}\n\nThese tools are there:\n\n{{ .Content }}<|eot_id|>\n"
     "{{- else }}\n\n{{ .Content }}<|eot_id|>{{ end }}{{ end }}"
     "<|start_header_id|>assistant<|end_header_id|>\n\n{{ end }}",
     "llama3"},
    {"<|im_start|>user\n{{ if .Tools }}{{ .Tools }}\n{{ end }}{{ .Prompt }}<|im_end|>\n"
     "<|im_start|>assistant\n",
     "chatml"},
    {"[INST] {{ if .System }}{{ .System }} {{ end }}{{ .Prompt }} [/INST]", "mistral-v0.1"},
    {"[INST] {{ .System }} {{ .Prompt }} [/INST]", "mistral-v0.1"},
    {"[INST] {{ if .System }}{{ .System }}\n\n{{ end }}{{ .Prompt }}[/INST] {{ .Response }}</s>",
     "mistral-v0.3"},
    {"[INST] <<SYS>>{{ .System }}<</SYS>>\n\n{{ .Prompt }} [/INST]\n", "llama2"},
    {"<|system|>\n{{ .System }}</s>\n<|user|>\n{{ .Prompt }}</s>\n<|assistant|>\n", "zephyr"},
    {"{{ .Prompt }}", NULL},
    {"", NULL},
    {"### Instruction:\n{{ .Prompt }}\n### Response:\n", NULL},
    {"<|im_start|>user<|im_sep|>{{ .Prompt }}<|im_end|><|im_start|>assistant<|im_sep|>", NULL},
    {"<|im_start|>user<|im_sep|>\n{{ .Prompt }}<|im_end|>\n<|im_start|>assistant<|im_sep|>", NULL},
    {"<|system|>\n{{ .System }}<|end|>\n<|user|>\n{{ .Prompt }}<|end|>\n<|assistant|>\n", NULL},
    {"<start_of_turn>user\n{{ .Prompt }}<end_of_turn>\n<start_of_turn>model\n", NULL},
    {"{{ if .System }}<|im_start|>user\n{{ .Prompt", NULL},
};

static void families_are_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *name;
        vly_error err = {0};
        vly_bytes source = {cases[i].source, strlen(cases[i].source)};
        assert_int_equal(vly_chat_go_family(source, eos, &name, &err), 0);
        if (!name != !cases[i].family || (name && strcmp(name, cases[i].family) != 0))
            fail_msg("expected %s, got %s: %s", cases[i].family, name, cases[i].source);
    }
}

/* Cut or changed anywhere, a template is one of a family or of none, and nothing else is read. */
static void damaged_templates_do_no_harm(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n = strlen(cases[i].source);
        for (size_t at = 0; at < n; at++) {
            const char *name;
            char *source = malloc(n);
            assert_non_null(source);
            memcpy(source, cases[i].source, n);
            source[at] ^= (char)(1 << at % 8);
            assert_int_equal(vly_chat_go_family((vly_bytes){source, n}, eos, &name, NULL), 0);
            free(source);
            source = malloc(at ? at : 1);
            assert_non_null(source);
            memcpy(source, cases[i].source, at);
            assert_int_equal(vly_chat_go_family((vly_bytes){source, at}, eos, &name, NULL), 0);
            free(source);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_are_found),
        cmocka_unit_test(damaged_templates_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
