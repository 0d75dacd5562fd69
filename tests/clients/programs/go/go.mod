module lookups

go 1.22
