"""Who is who: the private CA, how it is replaced, and the identity in a certificate."""
