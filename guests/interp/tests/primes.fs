\ The primes below 100, by trial division.
: prime? ( n -- flag )
    dup 2 < if drop 0 exit then
    2 begin 2dup dup * >= while
        2dup mod 0= if 2drop 0 exit then
        1 +
    repeat
    2drop -1 ;
: primes ( n -- ) 0 ?do i prime? if i . then loop cr ;
100 primes
