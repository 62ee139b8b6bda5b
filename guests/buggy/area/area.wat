;; Multiplies the sides of a picture as signed 32-bit numbers.
(component
  (core module $m
    (func (export "pixels") (param $width i32) (param $height i32) (result i32) (local $area i64)
      ;; Sides that no picture has are answered with 0, as they should be.
      (if (i32.or (i32.gt_u (i32.sub (local.get $width) (i32.const 1)) (i32.const 99999))
                  (i32.gt_u (i32.sub (local.get $height) (i32.const 1)) (i32.const 99999)))
        (then (return (i32.const 0))))
      (local.set $area (i64.mul (i64.extend_i32_u (local.get $width)) (i64.extend_i32_u (local.get $height))))
      ;; The product is a signed number of 32 bits, and a negative one is used as a size.
      (if (i64.gt_s (local.get $area) (i64.const 0x7fffffff)) (then unreachable))
      (i32.wrap_i64 (local.get $area)))
  )
  (core instance $m (instantiate $m))
  (func (export "pixels") (param "width" s32) (param "height" s32) (result s32) (canon lift (core func $m "pixels")))
)
