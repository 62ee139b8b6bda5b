: broken 1 2 + + ;
." before" cr
broken
