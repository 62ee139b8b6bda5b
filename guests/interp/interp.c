// interp: a small Forth. It compiles a program, from a file or stdin, for the machine in vm.c, and runs it as it goes.
#include "vm.h"
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_WORDS 1024
#define MAX_NAME 32
#define MAX_SOURCE (1 << 20)
#define MAX_NESTING 64

enum kind { PRIMITIVE, COMPILED, CONSTANT, CONTROL };

struct word {
    char name[MAX_NAME];
    enum kind kind;
    cell value;  // code number, place of the code, or constant
    void (*control)(void);
};

static struct word words[MAX_WORDS];
static int word_count = 0;
static char source[MAX_SOURCE + 1];
static int at = 0, line = 1, token_line = 1;
static int compiling = 0, definition = 0;  // inside `:` … `;`, where its code begins …
static char defined[MAX_NAME];             // … and its name

// Control structures that are still open: a branch whose target is to come, a target whose branch is to come, or a loop.
enum open_kind { FORWARD, BACKWARD, LOOP };
static struct {
    enum open_kind kind;
    int place;
} opened[MAX_NESTING];
static int open_count = 0;

_Noreturn void fail(const char *reason) {
    fflush(stdout);
    fprintf(stderr, "interp: line %d: %s\n", token_line, reason);
    exit(1);
}

// --- reading -------------------------------------------------------------------------------------

static int next_char(void) {
    int c = (unsigned char)source[at];
    if (c == '\0')
        return EOF;
    at++;
    if (c == '\n')
        line++;
    return c;
}

static void skip_to(int end) {
    int c;
    do
        c = next_char();
    while (c != end && c != EOF);
}

// Puts the next blank-separated piece of the program into `name`; returns 0 at the end.
static int piece(char name[MAX_NAME]) {
    int c, size = 0;
    do {
        token_line = line;
        c = next_char();
    } while (c != EOF && isspace(c));
    for (; c != EOF && !isspace(c); c = next_char()) {
        if (size == MAX_NAME - 1)
            fail("name too long");
        name[size++] = (char)tolower(c);
    }
    name[size] = '\0';
    return size > 0;
}

// As `piece`, but passes over comments.
static int token(char name[MAX_NAME]) {
    while (piece(name)) {
        if (strcmp(name, "(") == 0)
            skip_to(')');
        else if (strcmp(name, "\\") != 0)
            return 1;
        else if (source[at - 1] != '\n')
            skip_to('\n');
    }
    return 0;
}

static void need_name(char name[MAX_NAME]) {
    if (!token(name))
        fail("a name is missing");
}

static int number(const char *name, cell *value) {
    char *end;
    errno = 0;
    long long parsed = strtoll(name, &end, strncmp(name, "0x", 2) == 0 ? 16 : 10);
    *value = (cell)(uint32_t)parsed;
    return *end == '\0' && errno == 0 && parsed >= INT32_MIN && parsed <= (long long)UINT32_MAX;
}

// --- writing code --------------------------------------------------------------------------------

static int emit(cell value) {
    if (vm.code_size == CODE_CELLS)
        fail("program too large");
    vm.code[vm.code_size] = value;
    return vm.code_size++;
}

static void emit_pair(enum code op, cell operand) {
    emit(op);
    emit(operand);
}

static void hold(enum open_kind kind, int place) {
    if (open_count == MAX_NESTING)
        fail("nested too deeply");
    opened[open_count].kind = kind;
    opened[open_count++].place = place;
}

static int release(enum open_kind kind) {
    if (open_count == 0 || opened[open_count - 1].kind != kind)
        fail("unbalanced control words");
    return opened[--open_count].place;
}

static void hold_operand(enum open_kind kind, enum code op) {
    emit(op);
    hold(kind, emit(0));
}

// --- control words -------------------------------------------------------------------------------

static void control_if(void) { hold_operand(FORWARD, OP_BRANCH_IF_ZERO); }
static void control_then(void) { vm.code[release(FORWARD)] = vm.code_size; }
static void control_begin(void) { hold(BACKWARD, vm.code_size); }
static void control_until(void) { emit_pair(OP_BRANCH_IF_ZERO, release(BACKWARD)); }
static void control_again(void) { emit_pair(OP_BRANCH, release(BACKWARD)); }
static void control_do(void) { hold_operand(LOOP, OP_DO); }
static void control_question_do(void) { hold_operand(LOOP, OP_QUESTION_DO); }

static void control_else(void) {
    int before = release(FORWARD);
    hold_operand(FORWARD, OP_BRANCH);
    vm.code[before] = vm.code_size;
}

static void control_while(void) {
    int begin = release(BACKWARD);
    hold_operand(FORWARD, OP_BRANCH_IF_ZERO);
    hold(BACKWARD, begin);
}

static void control_repeat(void) {
    control_again();
    control_then();
}

static void finish_loop(enum code op) {
    int end = release(LOOP);
    emit_pair(op, end + 1);
    vm.code[end] = vm.code_size;
}

static void control_loop(void) { finish_loop(OP_LOOP); }
static void control_plus_loop(void) { finish_loop(OP_PLUS_LOOP); }

static void control_recurse(void) {
    if (!compiling)
        fail("recurse outside a definition");
    emit_pair(OP_CALL, definition);
}

static void control_text(void) {
    emit(OP_TEXT);
    int length = emit(0);
    for (int c = next_char(); c != '"'; c = next_char()) {
        if (c == EOF)
            fail("the text does not end");
        emit(c);
    }
    vm.code[length] = vm.code_size - length - 1;
}

static void control_char(void) {
    char name[MAX_NAME];
    if (!piece(name))
        fail("a character is missing");
    emit_pair(OP_LITERAL, (unsigned char)source[at - (source[at] != '\0') - (int)strlen(name)]);
}

// --- the dictionary ------------------------------------------------------------------------------

static struct word *add(const char *name, enum kind kind, cell value) {
    if (word_count == MAX_WORDS)
        fail("too many words");
    struct word *word = &words[word_count++];
    strcpy(word->name, name);
    word->kind = kind;
    word->value = value;
    return word;
}

static void add_control(const char *name, void (*control)(void)) { add(name, CONTROL, 0)->control = control; }

static void build_dictionary(void) {
#define ADD(name, text) add(text, PRIMITIVE, OP_##name);
    PRIMITIVES(ADD)
#undef ADD
    add_control("if", control_if);
    add_control("else", control_else);
    add_control("then", control_then);
    add_control("begin", control_begin);
    add_control("until", control_until);
    add_control("again", control_again);
    add_control("while", control_while);
    add_control("repeat", control_repeat);
    add_control("do", control_do);
    add_control("?do", control_question_do);
    add_control("loop", control_loop);
    add_control("+loop", control_plus_loop);
    add_control("recurse", control_recurse);
    add_control(".\"", control_text);
    add_control("[char]", control_char);
}

static struct word *find(const char *name) {
    for (int i = word_count - 1; i >= 0; i--)
        if (strcmp(words[i].name, name) == 0)
            return &words[i];
    return NULL;
}

// --- the outer interpreter -----------------------------------------------------------------------

// Writes the code of one word or number.
static void compile(const char *name) {
    cell value;
    struct word *word = find(name);
    if (word == NULL) {
        if (!number(name, &value))
            fail("unknown word");
        emit_pair(OP_LITERAL, value);
    } else if (word->kind == PRIMITIVE) {
        emit(word->value);
    } else if (word->kind == COMPILED) {
        emit_pair(OP_CALL, word->value);
    } else if (word->kind == CONSTANT) {
        emit_pair(OP_LITERAL, word->value);
    } else {
        word->control();
    }
}

// Compiles one word, together with the rest of its control structure, runs it, and forgets its code.
static void execute(char name[MAX_NAME]) {
    int start = vm.code_size;
    compile(name);
    while (open_count > 0) {
        if (!token(name))
            fail("unbalanced control words");
        compile(name);
    }
    emit(OP_EXIT);
    run(start);
    vm.code_size = start;
}

static void begin_definition(void) {
    if (compiling)
        fail("a definition inside a definition");
    need_name(defined);
    compiling = 1;
    definition = vm.code_size;
}

// The word is found only from here on: until then an older one of the same name is.
static void end_definition(void) {
    if (!compiling || open_count > 0)
        fail("unbalanced control words");
    emit(OP_EXIT);
    compiling = 0;
    add(defined, COMPILED, definition);
}

// Does `variable`, `create` and `constant`, which take the next token as a name. Returns 0 for any other word.
static int define(const char *kind) {
    char name[MAX_NAME];
    int is_variable = strcmp(kind, "variable") == 0, is_constant = strcmp(kind, "constant") == 0;
    if (!is_variable && !is_constant && strcmp(kind, "create") != 0)
        return 0;
    if (compiling)
        fail("a definition inside a definition");
    need_name(name);
    add(name, CONSTANT, is_constant ? pop() : vm.data_size);
    if (is_variable)
        reserve(1);
    return 1;
}

static void interpret(void) {
    char name[MAX_NAME];
    while (token(name)) {
        if (strcmp(name, ":") == 0)
            begin_definition();
        else if (strcmp(name, ";") == 0)
            end_definition();
        else if (define(name))
            continue;
        else if (compiling)
            compile(name);
        else
            execute(name);
    }
    if (compiling)
        fail("the definition does not end");
}

static void read_source(const char *name) {
    FILE *in = name == NULL ? stdin : fopen(name, "r");
    if (in == NULL) {
        fprintf(stderr, "interp: %s: %s\n", name, strerror(errno));
        exit(1);
    }
    size_t size = fread(source, 1, MAX_SOURCE + 1, in);
    if (ferror(in) || size > MAX_SOURCE) {
        fprintf(stderr, "interp: %s: %s\n", name == NULL ? "stdin" : name, ferror(in) ? strerror(errno) : "over 1 MiB");
        exit(1);
    }
    source[size] = '\0';
    if (name != NULL)
        fclose(in);
}

int main(int argc, char **argv) {
    read_source(argc > 1 ? argv[1] : NULL);
    build_dictionary();
    interpret();
    return 0;
}
