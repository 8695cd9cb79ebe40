package netrunner

// queue holds the places that wait in a group, a heap by their tickets
// ([container/heap]): whoever gives up leaves from the middle, and a hundred
// thousand may do so at once.
type queue []*place

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].ticket < q[j].ticket }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].at, q[j].at = i, j
}

// Push is for container/heap.
func (q *queue) Push(p any) {
	place := p.(*place)
	place.at = len(*q)
	*q = append(*q, place)
}

// Pop is for container/heap.
func (q *queue) Pop() any {
	last := len(*q) - 1
	p := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return p
}
