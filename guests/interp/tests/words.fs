1 2 3 rot .s cr 2drop drop
7 -3 / . 7 -3 mod . -7 abs . 5 negate . cr
2147483647 1 + . 0xff . 1 31 lshift . -1 28 rshift . cr
3 4 < . 3 4 > . 5 5 <= . 5 6 <> . 0 0= . cr
1 2 over . . . 8 9 nip . 1 2 tuck . . . cr
10 20 30 2 pick . depth . 2drop drop cr
0 ?dup . 5 ?dup . . cr
: squares 5 0 do i dup * . loop ; squares cr
: table 3 1 do 3 0 do i j * . loop loop ; table cr
: down 10 0 do i . 3 +loop ; down cr
: back 0 10 do i . -5 +loop ; back cr
: never 5 5 ?do i . loop ." nothing" ; never cr
: factorial dup 2 < if drop 1 else dup 1 - recurse * then ; 10 factorial . cr
variable x 42 x ! x @ . 8 x +! x @ . cr
3 constant three three three * . cr
create squares-table 1 , 4 , 9 , 16 , squares-table 2 + @ . cr
: find-seven 20 0 do i 7 = if i unloop exit then loop -1 ; find-seven . cr
: kept 5 >r r@ r> + ; kept . cr
[char] A emit 2 spaces [char] z emit cr
: count-down begin dup . 1 - dup 0= until drop ; 3 count-down cr
1 if ." outside a definition" ( and a comment ) then cr
( a comment ) ." the end" cr
bye
this is never reached
