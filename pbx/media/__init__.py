"""Media: session descriptions, and the engines that bridge what cannot speak directly."""
