"""From images and masks to a prepared set: pairing, tables, split, pack, phantoms."""
