#include "vm.h"
#include <stdio.h>
#include <stdlib.h>

struct vm vm;

// --- stacks and memory ---------------------------------------------------------------------------

void push(cell value) {
    if (vm.depth == STACK_CELLS)
        fail("stack overflow");
    vm.stack[vm.depth++] = value;
}

cell pop(void) {
    if (vm.depth == 0)
        fail("stack underflow");
    return vm.stack[--vm.depth];
}

static cell peek(cell down) {
    if (down < 0 || down >= vm.depth)
        fail("stack underflow");
    return vm.stack[vm.depth - 1 - down];
}

static void aside_push(cell value) {
    if (vm.aside_depth == STACK_CELLS)
        fail("return stack overflow");
    vm.aside[vm.aside_depth++] = value;
}

static cell *aside_peek(int down) {
    if (down >= vm.aside_depth)
        fail("return stack underflow");
    return &vm.aside[vm.aside_depth - 1 - down];
}

static cell aside_pop(void) {
    cell value = *aside_peek(0);
    vm.aside_depth--;
    return value;
}

static cell *variable(cell address) {
    if (address < 0 || address >= vm.data_size)
        fail("no such address");
    return &vm.data[address];
}

void reserve(cell count) {
    if (count < 0 || count > DATA_CELLS - vm.data_size)
        fail("out of data space");
    vm.data_size += count;
}

// --- words ---------------------------------------------------------------------------------------

// Arithmetic wraps around, as it does in Forth; signed overflow has no meaning in C.
static cell wrap(int64_t value) { return (cell)(uint32_t)value; }

static cell divide(cell a, cell b, int remainder) {
    if (b == 0)
        fail("division by zero");
    int64_t quotient = (int64_t)a / b;
    return wrap(remainder ? (int64_t)a - quotient * b : quotient);
}

static cell shift(cell a, cell by, int left) {
    if (by < 0 || by > 31)
        return 0;
    return (cell)(left ? (uint32_t)a << by : (uint32_t)a >> by);
}

static cell flag(int truth) { return truth ? -1 : 0; }

static cell binary(enum code op, cell a, cell b) {
    switch (op) {
    case OP_ADD: return wrap((int64_t)a + b);
    case OP_SUB: return wrap((int64_t)a - b);
    case OP_MUL: return wrap((int64_t)a * b);
    case OP_DIV: return divide(a, b, 0);
    case OP_MOD: return divide(a, b, 1);
    case OP_MIN: return a < b ? a : b;
    case OP_MAX: return a > b ? a : b;
    case OP_AND: return a & b;
    case OP_OR: return a | b;
    case OP_XOR: return a ^ b;
    case OP_LSHIFT: return shift(a, b, 1);
    case OP_RSHIFT: return shift(a, b, 0);
    case OP_EQ: return flag(a == b);
    case OP_NE: return flag(a != b);
    case OP_LT: return flag(a < b);
    case OP_GT: return flag(a > b);
    case OP_LE: return flag(a <= b);
    default: return flag(a >= b);
    }
}

static cell unary(enum code op, cell a) {
    switch (op) {
    case OP_NEGATE: return wrap(-(int64_t)a);
    case OP_ABS: return wrap(a < 0 ? -(int64_t)a : a);
    case OP_INVERT: return ~a;
    default: return flag(a == 0);
    }
}

static void shuffle(enum code op) {
    cell top = op == OP_DEPTH ? 0 : pop(), next;
    switch (op) {
    case OP_DUP: push(top); push(top); break;
    case OP_QDUP: push(top); if (top) push(top); break;
    case OP_DROP: break;
    case OP_SWAP: next = pop(); push(top); push(next); break;
    case OP_OVER: next = peek(0); push(top); push(next); break;
    case OP_ROT: { cell second = pop(), third = pop(); push(second); push(top); push(third); break; }
    case OP_NIP: pop(); push(top); break;
    case OP_TUCK: next = pop(); push(top); push(next); push(top); break;
    case OP_TWODUP: next = peek(0); push(top); push(next); push(top); break;
    case OP_TWODROP: pop(); break;
    case OP_PICK: push(peek(top)); break;
    default: push(vm.depth); break;
    }
}

static void print_stack(void) {
    printf("<%d> ", vm.depth);
    for (int i = 0; i < vm.depth; i++)
        printf("%ld ", (long)vm.stack[i]);
}

static void print_spaces(cell count) {
    for (; count > 0; count--)
        putchar(' ');
}

static void talk(enum code op) {
    switch (op) {
    case OP_DOT: printf("%ld ", (long)pop()); break;
    case OP_DOTS: print_stack(); break;
    case OP_CR: putchar('\n'); break;
    case OP_EMIT: putchar(pop() & 255); break;
    case OP_SPACE: putchar(' '); break;
    case OP_SPACES: print_spaces(pop()); break;
    case OP_KEY: push(getchar()); break;
    default: exit(0);
    }
}

static void remember(enum code op) {
    cell address;
    switch (op) {
    case OP_FETCH: push(*variable(pop())); break;
    case OP_STORE: address = pop(); *variable(address) = pop(); break;
    case OP_PLUSSTORE: address = pop(); *variable(address) = wrap((int64_t)*variable(address) + pop()); break;
    case OP_COMMA: reserve(1); vm.data[vm.data_size - 1] = pop(); break;
    case OP_ALLOT: reserve(pop()); break;
    default: push(vm.data_size); break;
    }
}

static void return_stack(enum code op) {
    switch (op) {
    case OP_TOR: aside_push(pop()); break;
    case OP_RFROM: push(aside_pop()); break;
    case OP_RFETCH:
    case OP_I: push(*aside_peek(0)); break;
    case OP_J: push(*aside_peek(2)); break;
    default: aside_pop(); aside_pop(); break;
    }
}

static void primitive(enum code op) {
    if (op == OP_NEGATE || op == OP_ABS || op == OP_INVERT || op == OP_ZEROEQ) {
        push(unary(op, pop()));
    } else if (op <= OP_GE) {
        cell b = pop(), a = pop();
        push(binary(op, a, b));
    } else if (op <= OP_DEPTH) {
        shuffle(op);
    } else if (op <= OP_UNLOOP) {
        return_stack(op);
    } else if (op <= OP_HERE) {
        remember(op);
    } else {
        talk(op);
    }
}

// --- control -------------------------------------------------------------------------------------

// Starts a counted loop: the return stack holds its limit and, on top, its counter.
static int begin_loop(int at, int may_skip) {
    cell start = pop(), limit = pop();
    if (may_skip && start == limit)
        return vm.code[at];
    aside_push(limit);
    aside_push(start);
    return at + 1;
}

// A loop ends when the counter crosses the boundary between limit - 1 and limit.
static int end_loop(int at, cell step) {
    cell *counter = aside_peek(0), limit = *aside_peek(1);
    int64_t before = (int64_t)*counter - limit, after = before + step;
    if ((before < 0) != (after < 0)) {
        vm.aside_depth -= 2;
        return at + 1;
    }
    *counter = wrap((int64_t)*counter + step);
    return vm.code[at];
}

static int print_text(int at) {
    int length = vm.code[at++];
    for (int end = at + length; at < end; at++)
        putchar(vm.code[at]);
    return at;
}

static int call(int from, int to) {
    if (vm.call_depth == STACK_CELLS)
        fail("calls nested too deeply");
    vm.calls[vm.call_depth++] = from;
    return to;
}

void run(int at) {
    int bottom = vm.call_depth;
    for (;;) {
        int op = vm.code[at++];
        switch (op) {
        case OP_LITERAL: push(vm.code[at++]); break;
        case OP_BRANCH: at = vm.code[at]; break;
        case OP_BRANCH_IF_ZERO: at = pop() ? at + 1 : vm.code[at]; break;
        case OP_DO: at = begin_loop(at, 0); break;
        case OP_QUESTION_DO: at = begin_loop(at, 1); break;
        case OP_LOOP: at = end_loop(at, 1); break;
        case OP_PLUS_LOOP: at = end_loop(at, pop()); break;
        case OP_TEXT: at = print_text(at); break;
        case OP_CALL: at = call(at + 1, vm.code[at]); break;
        case OP_EXIT:
            if (vm.call_depth == bottom)
                return;
            at = vm.calls[--vm.call_depth];
            break;
        default: primitive((enum code)op); break;
        }
    }
}
