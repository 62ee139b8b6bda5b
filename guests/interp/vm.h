// The machine that runs compiled Forth: code, data and three stacks, every access to them checked.
#pragma once
#include <stdint.h>

typedef int32_t cell;

#define CODE_CELLS 32768
#define DATA_CELLS 65536
#define STACK_CELLS 1024

// One line per word that the machine performs itself: the name of its code, and its name in a program.
#define PRIMITIVES(X)                                                                                                  \
    X(ADD, "+") X(SUB, "-") X(MUL, "*") X(DIV, "/") X(MOD, "mod") X(NEGATE, "negate") X(ABS, "abs") X(MIN, "min")       \
    X(MAX, "max") X(AND, "and") X(OR, "or") X(XOR, "xor") X(INVERT, "invert") X(LSHIFT, "lshift")                       \
    X(RSHIFT, "rshift") X(EQ, "=") X(NE, "<>") X(LT, "<") X(GT, ">") X(LE, "<=") X(GE, ">=") X(ZEROEQ, "0=")            \
    X(DUP, "dup") X(QDUP, "?dup") X(DROP, "drop") X(SWAP, "swap") X(OVER, "over") X(ROT, "rot") X(NIP, "nip")           \
    X(TUCK, "tuck") X(TWODUP, "2dup") X(TWODROP, "2drop") X(PICK, "pick") X(DEPTH, "depth") X(TOR, ">r")                \
    X(RFROM, "r>") X(RFETCH, "r@") X(I, "i") X(J, "j") X(UNLOOP, "unloop") X(EXIT, "exit") X(FETCH, "@")                \
    X(STORE, "!") X(PLUSSTORE, "+!") X(COMMA, ",") X(ALLOT, "allot") X(HERE, "here") X(DOT, ".") X(DOTS, ".s")          \
    X(CR, "cr") X(EMIT, "emit") X(SPACE, "space") X(SPACES, "spaces") X(KEY, "key") X(BYE, "bye")

enum code {
#define CODE(name, text) OP_##name,
    PRIMITIVES(CODE)
#undef CODE
    PRIMITIVE_COUNT,
    // The rest is what the compiler writes; each is followed by one cell.
    OP_LITERAL = PRIMITIVE_COUNT,
    OP_BRANCH,
    OP_BRANCH_IF_ZERO,
    OP_DO,           // ( limit start -- ), followed by where the loop ends: `do` always runs once, `?do` may not
    OP_QUESTION_DO,
    OP_LOOP,
    OP_PLUS_LOOP,
    OP_CALL,
    OP_TEXT,         // followed by a length and that many cells, one character each
};

struct vm {
    cell code[CODE_CELLS];
    cell data[DATA_CELLS];
    cell stack[STACK_CELLS];
    cell aside[STACK_CELLS];  // what programs see as the return stack: >r and the counters of loops
    int calls[STACK_CELLS];   // where calls return to, out of the reach of programs
    int code_size, data_size, depth, aside_depth, call_depth;
};

extern struct vm vm;

// Ends the program with "interp: LINE: reason" and exit code 1; the compiler has it, as it knows the line.
_Noreturn void fail(const char *reason);

void push(cell value);
cell pop(void);

// Takes `count` more cells of data, which are zero.
void reserve(cell count);

// Runs the code from `at` until it exits.
void run(int at);
