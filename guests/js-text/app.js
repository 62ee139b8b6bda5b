// The interface `counting` of guests/c-text/text.wit.

export const counting = {
  count(text) {
    const words = text.split(/\s+/).filter((word) => word.length > 0);
    return { bytes: text.length, words: words.length, lines: text.split("\n").length - 1 };
  },

  reverse(text) {
    for (let n = 0; n < text.length; n++) {
      if (text.charCodeAt(n) > 0x7f) {
        throw n;
      }
    }
    return [...text].reverse().join("");
  },

  sum(numbers) {
    // A number here is a double: exact up to 2^53, which this guest leaves at that.
    return numbers.reduce((total, number) => total + Number(number), 0);
  },
};
