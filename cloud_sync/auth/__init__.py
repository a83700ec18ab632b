"""Who is who: the development CA and the identity in a certificate."""
