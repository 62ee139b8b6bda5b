: wrong begin 1 then ;
